use std::process::Command;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, date_time_ymd};

use super::*;

fn now() -> DateTime<Utc> {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

/// A certificate that signs itself, and its key.
fn made(tune: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(vec!["www.example.test".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "US");
    params.distinguished_name.push(DnType::CommonName, "www.example.test");
    tune(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A key of this kind and a certificate for it, as OpenSSL writes them.
fn by_openssl(kind: &[&str]) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let key = run(kind);
    std::fs::write(folder.path().join("key"), &key).unwrap();
    let certificate =
        run(&["req", "-x509", "-new", "-key", "key", "-days", "7300", "-subj", "/C=US/O=Example/CN=www.example.test"]);
    (certificate, key)
}

#[test]
fn everything_that_the_api_tells_is_read() {
    let (pem, key) = made(|params| {
        params.subject_alt_names.push(SanType::DnsName("*.example.test".try_into().unwrap()));
        params.subject_alt_names.push(SanType::IpAddress("2001:db8::1".parse().unwrap()));
        params.not_before = date_time_ymd(2029, 5, 1);
        params.not_after = date_time_ymd(2031, 5, 1);
    });
    let certificate = Certificate::parse(&pem, now()).unwrap();
    assert_eq!(certificate.common_name.as_deref(), Some("www.example.test"));
    assert_eq!(certificate.san, ["www.example.test", "*.example.test", "2001:db8::1"]);
    assert_eq!(certificate.subject, "/C=US/CN=www.example.test");
    assert_eq!(certificate.issuer, certificate.subject);
    assert_eq!(certificate.starts.to_rfc3339(), "2029-05-01T00:00:00+00:00");
    assert_eq!(certificate.expires.to_rfc3339(), "2031-05-01T00:00:00+00:00");
    assert_eq!(certificate.fingerprint.len(), 95);
    assert!(certificate.fingerprint.split(':').all(|pair| pair.len() == 2 && pair == pair.to_uppercase()));
    let key = PrivateKey::parse(&key).unwrap();
    assert!(certificate.fits(&key));
    assert_eq!(format!("{key:?}").matches("[secret]").count(), 1);
}

#[test]
fn keys_of_every_kind_are_taken_as_openssl_writes_them() {
    for kind in [
        &["genrsa", "2048"][..],
        &["genrsa", "-traditional", "2048"],
        &["ecparam", "-name", "prime256v1", "-genkey", "-noout"],
        &["ecparam", "-name", "secp384r1", "-genkey", "-noout"],
        &["genpkey", "-algorithm", "ed25519"],
    ] {
        let (pem, key) = by_openssl(kind);
        let certificate = Certificate::parse(&pem, Utc::now()).unwrap();
        let parsed = PrivateKey::parse(&key).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert!(certificate.fits(&parsed), "{kind:?}");
        // What is kept is what was given, and no more.
        assert_eq!((certificate.chain, parsed.pem.expose()), (pem, &*key), "{kind:?}");
        assert_eq!(certificate.subject, "/C=US/O=Example/CN=www.example.test");
    }
}

#[test]
fn a_chain_keeps_its_order_and_nothing_between() {
    let ((first, key), (second, _)) = (made(|_| {}), made(|_| {}));
    let parsed = Certificate::parse(&format!("Bag Attributes\n  x\n{first}\n\nnotes\r\n{second}{key}"), now()).unwrap();
    assert_eq!(parsed.chain, format!("{first}{second}").replace("\r\n", "\n"));
    assert!(parsed.fits(&PrivateKey::parse(&key).unwrap()));
    let turned = Certificate::parse(&format!("{second}{first}"), now()).unwrap();
    assert!(!turned.fits(&PrivateKey::parse(&key).unwrap()), "the site's own comes first");
}

#[test]
fn what_is_no_certificate_says_why() {
    let (good, key) = made(|_| {});
    let expired = made(|params| params.not_after = date_time_ymd(2029, 12, 31)).0;
    let body: String = good.lines().filter(|line| !line.starts_with("---")).collect();
    let wrapped = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    for (text, why) in [
        ("hello".to_owned(), "there is no -----BEGIN CERTIFICATE----- in it"),
        (key, "there is no -----BEGIN CERTIFICATE----- in it"),
        (expired, "it expired on 31 Dec 2029"),
        (
            good.replace("-----END CERTIFICATE-----", ""),
            "the text is not PEM; it must be whole, with its BEGIN and END lines",
        ),
        (wrapped("!!!!"), "the text is not PEM; it must be whole, with its BEGIN and END lines"),
        (wrapped("AAAA"), "it is not an X.509 certificate"),
        (wrapped(&body[..400]), "it is not an X.509 certificate"),
        (format!("{good}{}", wrapped("AAAA")), "certificate 2 of the file: it is not an X.509 certificate"),
        (good.repeat(11), "there are more than 10 certificates"),
        ("x".repeat(LARGEST_CHAIN + 1), "it is larger than 131072 bytes"),
    ] {
        let error = Certificate::parse(&text, now()).unwrap_err().to_string();
        assert_eq!(error, format!("Could not load certificate: {why}"));
    }
}

#[test]
fn what_is_no_key_says_why_and_nothing_of_itself() {
    let (certificate, key) = made(|_| {});
    let weak = Command::new("openssl").args(["genrsa", "1024"]).output().unwrap().stdout;
    let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (text, why) in [
        ("hello".to_owned(), "there is no -----BEGIN PRIVATE KEY----- in it"),
        (certificate, "this is a certificate; the key is in another file"),
        (locked, "it is locked by a passphrase; unlock it first: openssl pkey -in locked.key -out open.key"),
        (key.replace("-----END", "END"), "the text is not PEM; it must be whole, with its BEGIN and END lines"),
        (key.repeat(2), "there is more than one in the text"),
        (String::from_utf8(weak).unwrap(), "it is not RSA of 2048 to 4096 bits, EC on P-256 or P-384, or Ed25519"),
        ("x".repeat(LARGEST_KEY + 1), "it is too large"),
    ] {
        let error = PrivateKey::parse(&text).unwrap_err().to_string();
        assert_eq!(error, format!("Could not load private key: {why}"));
    }
}

#[test]
fn names_from_elsewhere_are_harmless() {
    let (pem, _) = made(|params| {
        params.distinguished_name.push(DnType::CommonName, format!("a\0b\u{1b}[2J{}", "x".repeat(3000)));
    });
    let certificate = Certificate::parse(&pem, now()).unwrap();
    let name = certificate.common_name.unwrap();
    assert!(name.starts_with("a\u{fffd}b\u{fffd}[2Jx") && name.chars().count() == LONGEST_NAME, "{name}");
    assert!(certificate.subject.chars().count() <= LONGEST_NAME);
}

#[test]
fn a_certificate_speaks_for_its_names_and_one_label_below_a_wildcard() {
    let san = ["www.Example.test".to_owned(), "*.shop.test".to_owned()];
    for host in ["www.example.test", "a.shop.test", "*.shop.test"] {
        assert!(covers(&san, Some("other.test"), host), "{host}");
    }
    for host in ["example.test", "shop.test", "a.b.shop.test", "other.test", "x.www.example.test"] {
        assert!(!covers(&san, Some("other.test"), host), "{host}");
    }
    assert!(covers(&[], Some("other.test"), "other.test"));
    assert!(!covers(&[], None, "other.test"));
}
