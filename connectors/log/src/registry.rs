//! A client of the schema registry: registers the schemas of our topics and learns their ids. It speaks Confluent's REST
//! interface, which Apicurio and Redpanda offer as well.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::codec::{SchemaIds, older_schemas_json, schema_json};
use schemas::topic::Topic;
use serde::Deserialize;

use platform::secret::Secret;

const REQUEST_LIMIT: Duration = Duration::from_secs(10);
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

platform::settings! {
    /// Settings of the registry.
    pub struct RegistryConfig {
        /// Base URL of the REST interface, such as `http://registry:8081`; empty for no registry.
        #[expects("empty, or http:// or https:// and a host", is_url)]
        url: String = String::new(),
        /// User name for basic authentication; empty for none.
        username: String = String::new(),
        /// Password of that user.
        password: Secret = Secret::default(),
    }
}

fn is_url(text: &str) -> bool {
    let host = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    text.is_empty() || host.is_some_and(|host| !host.is_empty())
}

/// Why a call to the registry failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("schema registry is not available: {0}")]
    Unavailable(#[source] reqwest::Error),
    #[error("schema registry refused {subject}: {status} {answer}")]
    Refused {
        subject: String,
        status: u16,
        answer: String,
    },
    #[error("registry.url: {0}")]
    Setup(String),
}

impl RegistryError {
    /// Returns whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::Setup(_) => false,
        }
    }
}

/// A client of the registry.
#[derive(Debug)]
pub struct Registry {
    config: RegistryConfig,
    client: reqwest::Client,
}

#[derive(Debug, Deserialize)]
struct Registered {
    id: u32,
}

impl Registry {
    /// Makes a client, which connects on the first call.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        let client = reqwest::Client::builder()
            .timeout(REQUEST_LIMIT)
            .build()
            .map_err(|error| RegistryError::Setup(error.to_string()))?;
        Ok(Self { config, client })
    }

    /// Registers each topic's schema under `{prefix}{topic}-value` with BACKWARD compatibility. Also looks up the ids of
    /// older schemas, without registering them. Registering the same schema again gives the same id.
    pub async fn register_all(
        &self,
        prefix: &str,
    ) -> Result<BTreeMap<Topic, SchemaIds>, RegistryError> {
        let mut ids = BTreeMap::new();
        for topic in Topic::ALL {
            let subject = format!("{prefix}{topic}-value");
            let schema = serde_json::json!({"schema": schema_json(topic)});
            let path = format!("subjects/{subject}/versions");
            let answer = self
                .send(reqwest::Method::POST, &path, &subject, &schema)
                .await?;
            let registered: Registered = answer.json().await.map_err(RegistryError::Unavailable)?;
            let mut older = Vec::new();
            for schema in older_schemas_json(topic) {
                older.push(self.registered(&subject, schema).await?);
            }
            let newest = registered.id;
            ids.insert(topic, SchemaIds { newest, older });
            let level = serde_json::json!({"compatibility": "BACKWARD"});
            self.send(
                reqwest::Method::PUT,
                &format!("config/{subject}"),
                &subject,
                &level,
            )
            .await?;
        }
        Ok(ids)
    }

    /// Returns the id of a schema under `subject`, if it is registered there.
    async fn registered(&self, subject: &str, schema: &str) -> Result<Option<u32>, RegistryError> {
        let schema = serde_json::json!({"schema": schema});
        let path = format!("subjects/{subject}");
        let answer = self
            .send(reqwest::Method::POST, &path, subject, &schema)
            .await;
        match answer {
            Ok(answer) => {
                let registered: Registered =
                    answer.json().await.map_err(RegistryError::Unavailable)?;
                Ok(Some(registered.id))
            }
            Err(RegistryError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        subject: &str,
        body: &serde_json::Value,
    ) -> Result<reqwest::Response, RegistryError> {
        let url = format!("{}/{path}", self.config.url.trim_end_matches('/'));
        let mut request = self
            .client
            .request(method, url)
            .header("content-type", CONTENT_TYPE);
        if !self.config.username.is_empty() {
            request =
                request.basic_auth(&self.config.username, Some(self.config.password.expose()));
        }
        let request = request.body(body.to_string());
        let answer = request.send().await.map_err(RegistryError::Unavailable)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(RegistryError::Refused {
            subject: subject.to_owned(),
            status: answer.status().as_u16(),
            answer: answer
                .text()
                .await
                .unwrap_or_default()
                .chars()
                .take(300)
                .collect(),
        })
    }
}
