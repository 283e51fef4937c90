//! A TCP connection between a platform and something that it needs, which a scenario can cut and mend.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A port that passes everything on to another one. Dropping it takes it away.
#[derive(Debug)]
pub struct Wire {
    /// Where it listens, also while it is cut: nobody else gets its port.
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Wire {
    /// Listens for what is meant for `target`, as `host:port`.
    pub async fn to(target: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for a wire")?;
        let address = listener.local_addr()?;
        let cut = watch::Sender::new(false);
        let serving = tokio::spawn(serve(listener, target, cut.clone()));
        Ok(Self { address, cut, serving })
    }

    /// Ends every connection, and new ones at once.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Passes on again.
    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.serving.abort();
        self.cut();
    }
}

async fn serve(listener: TcpListener, target: String, cut: watch::Sender<bool>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let (target, mut cut) = (target.clone(), cut.subscribe());
        tokio::spawn(async move {
            let passed_on = async {
                let mut server = TcpStream::connect(&target).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            };
            // Whoever hangs up ends the connection; that is no trouble of ours.
            tokio::select! {
                biased;
                _ = cut.wait_for(|cut| *cut) => {}
                _ = passed_on => {}
            }
        });
    }
}
