//! `hearth ready`: asks a running Hearth whether it is ready. For places without a shell, where nothing else could ask.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(500);
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The address under which this machine reaches what listens on `listen`.
#[must_use]
pub fn url_of(listen: &str) -> String {
    let local = listen
        .strip_prefix("0.0.0.0:")
        .or_else(|| listen.strip_prefix("[::]:"));
    local.map_or_else(
        || format!("http://{listen}"),
        |port| format!("http://127.0.0.1:{port}"),
    )
}

/// Resolves once `/readyz` under `url` answers that it is ready.
///
/// # Errors
/// When it does not within `wait`; with what it said last.
pub async fn until_ready(url: &str, wait: Duration) -> Result<()> {
    let asked = format!("{}/readyz", url.trim_end_matches('/'));
    // Fails only if one is installed already, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(ANSWER_MAX)
        .build()
        .context("set up HTTP")?;
    let deadline = Instant::now() + wait;
    loop {
        let failure = match ask(&client, &asked).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if Instant::now() + PAUSE > deadline {
            return Err(failure).with_context(|| format!("{asked} is not ready"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(client: &reqwest::Client, url: &str) -> Result<()> {
    let answer = client.get(url).send().await?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    bail!("{status}: {}", answer.text().await.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::{until_ready, url_of};

    #[test]
    fn an_address_for_everybody_is_reached_on_loopback() {
        assert_eq!(url_of("0.0.0.0:8080"), "http://127.0.0.1:8080");
        assert_eq!(url_of("[::]:8080"), "http://127.0.0.1:8080");
        assert_eq!(url_of("10.0.0.7:80"), "http://10.0.0.7:80");
    }

    /// Answers each connection with the next of `answers`, and then no more.
    fn serve(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (mut socket, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let read = socket.read(&mut request).unwrap();
                assert!(request[..read].starts_with(b"GET /readyz HTTP/1.1\r\n"));
                let head = format!(
                    "HTTP/1.1 {answer}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
                );
                socket.write_all(head.as_bytes()).unwrap();
            }
        });
        url
    }

    #[tokio::test]
    async fn it_waits_until_the_answer_is_ready() {
        let url = serve(&["503 Service Unavailable", "200 OK"]);
        until_ready(&url, Duration::from_secs(30)).await.unwrap();
    }

    #[tokio::test]
    async fn it_says_what_was_answered_last() {
        let url = serve(&["503 Service Unavailable"]);
        let failure = until_ready(&url, Duration::ZERO).await.unwrap_err();
        let text = format!("{failure:#}");
        assert!(text.contains("503 Service Unavailable: no"), "{text}");
    }

    #[tokio::test]
    async fn nobody_there_is_not_ready() {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let url = format!("http://127.0.0.1:{port}");
        assert!(until_ready(&url, Duration::ZERO).await.is_err());
    }
}
