//! One domain's order, from wherever it has come to, to its certificate.

use std::time::Duration;

use chrono::{DateTime, Utc};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::{
    Fetcher, account,
    error::{AcmeError, words},
    install, reach,
};
use crate::{
    db::{self, acme::Due, routing::Changed},
    deploy::{certs, wait},
    domain::certificate::PrivateKey,
};

/// How long every router has to follow, before the authority is told to look.
pub(super) const ROUTERS: Duration = Duration::from_secs(20);
/// How long an authority may take to look, and then to sign.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_secs(90));

/// Fetches a domain's certificate and serves it; gives the moment at which it is to be renewed.
pub(super) async fn fetch(fetcher: &Fetcher, due: &Due) -> Result<DateTime<Utc>, AcmeError> {
    let account = account::get(fetcher).await?;
    let mut order = resume(fetcher, &account, due).await?;
    let mut status = order.state().status;
    if status == OrderStatus::Pending {
        answer(fetcher, &mut order, due).await?;
        status = match order.poll_ready(&PATIENCE).await {
            Ok(status) => status,
            Err(error) => return Err(refusal(&mut order).await.unwrap_or_else(|| error.into())),
        };
    }
    if status == OrderStatus::Ready {
        ask(fetcher, &mut order, due).await?;
        fetcher.platform.hold.reach("acme.asked").await;
        status = order.state().status;
    }
    if status == OrderStatus::Invalid {
        let said = refusal(&mut order).await;
        return Err(said.unwrap_or_else(|| AcmeError::Refused("the authority gave the order up".to_owned())));
    }
    let chain = order.poll_certificate(&PATIENCE).await?;
    install::install(fetcher, due, &chain).await
}

/// The order that is under way at the authority, or a new one.
async fn resume(fetcher: &Fetcher, account: &Account, due: &Due) -> Result<Order, AcmeError> {
    let mut db = fetcher.platform.pool.acquire().await?;
    let known = db::acme::order(&mut db, due, &fetcher.authority.directory).await?;
    drop(db);
    if let Some(url) = known.order_url {
        match account.order(url).await {
            Ok(mut order) => match order.state().status {
                OrderStatus::Pending | OrderStatus::Ready => return Ok(order),
                // What was signed for a key that nobody has is of no use.
                OrderStatus::Processing | OrderStatus::Valid if known.key.is_some() => return Ok(order),
                OrderStatus::Processing | OrderStatus::Valid | OrderStatus::Invalid => {}
            },
            // The authority has forgotten it.
            Err(instant_acme::Error::Api(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    reach::check(fetcher, due).await?;
    let identifiers = [Identifier::Dns(fetcher.platform.options.host(&due.domain))];
    let order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let mut db = fetcher.platform.pool.acquire().await?;
    db::acme::set_order(&mut db, &due.domain, Some(order.url())).await?;
    Ok(order)
}

/// Has every router answer what the authority asks the domain for, then tells the authority to look.
async fn answer(fetcher: &Fetcher, order: &mut Order, due: &Due) -> Result<(), AcmeError> {
    let platform = &fetcher.platform;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            _ => return Err(AcmeError::Refused("the authority gave the order up".to_owned())),
        }
        let mut challenge = authorization
            .challenge(ChallengeType::Http01)
            .ok_or_else(|| AcmeError::Refused("the authority does not ask over HTTP".to_owned()))?;
        if challenge.status != ChallengeStatus::Pending {
            continue;
        }
        let mut db = platform.pool.begin().await?;
        let answer = challenge.key_authorization();
        db::acme::set_answer(&mut db, &due.domain, &challenge.token, answer.as_str()).await?;
        let version = db::routing::raise(&mut db, Changed::Certificates).await?;
        db.commit().await?;
        if !wait::published(platform, version, ROUTERS).await? {
            return Err(AcmeError::Routers);
        }
        platform.hold.reach("acme.answered").await;
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Asks for the certificate. Its key is kept before anything is signed for it.
async fn ask(fetcher: &Fetcher, order: &mut Order, due: &Due) -> Result<(), AcmeError> {
    let unmade = |error: rcgen::Error| AcmeError::Key(error.to_string());
    let pair = KeyPair::generate().map_err(unmade)?;
    let mut params = CertificateParams::new(vec![fetcher.platform.options.host(&due.domain)]).map_err(unmade)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&pair).map_err(unmade)?;
    let key = PrivateKey::parse(&pair.serialize_pem()).map_err(|error| AcmeError::Key(error.to_string()))?;
    let sealed = certs::sealed(&fetcher.platform.seal, &key)?;
    let mut db = fetcher.platform.pool.acquire().await?;
    db::acme::set_key(&mut db, &due.domain, &sealed).await?;
    drop(db);
    Ok(order.finalize_csr(request.der()).await?)
}

/// What the authority found wrong with the domain, if that is why.
async fn refusal(order: &mut Order) -> Option<AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let found = authorization.refresh().await.ok()?;
        if let Some(problem) = found.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Some(AcmeError::Refused(words(problem)));
        }
    }
    None
}
