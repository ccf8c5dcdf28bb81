//! Messages as protobuf's JSON and back, `Any`s opened: for golden files, bootstraps and people.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use prost_types::Any;
use serde_json::Value;

/// The descriptors, indexed.
pub static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(crate::DESCRIPTORS).expect("build.rs wrote a whole descriptor set"));

/// The JSON of a message; field names as in the .proto files, keys sorted, defaults left out.
///
/// # Errors
/// When the message holds an `Any` of a type that this crate does not know, or a text that is not UTF-8.
pub fn to_json<M: Message + Name>(message: &M) -> Result<Value, JsonError> {
    encoded_to_json(&M::full_name(), &message.encode_to_vec())
}

/// The JSON of what an `Any` holds.
///
/// # Errors
/// As [`to_json`].
pub fn any_to_json(any: &Any) -> Result<Value, JsonError> {
    encoded_to_json(type_name(&any.type_url), &any.value)
}

/// The JSON of an encoded message of type `name` (a full name or a type URL).
///
/// # Errors
/// As [`to_json`].
pub fn encoded_to_json(name: &str, bytes: &[u8]) -> Result<Value, JsonError> {
    let message = DynamicMessage::decode(descriptor(name)?, bytes).map_err(JsonError::Bytes)?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    let mut value = message.serialize_with_options(serde_json::value::Serializer, &options).map_err(JsonError::Json)?;
    value.sort_all_objects();
    Ok(value)
}

/// Reads a message from JSON; field names in either form, unknown fields refused.
///
/// # Errors
/// When the JSON does not fit `M`.
pub fn from_json<M: Message + Name + Default>(value: Value) -> Result<M, JsonError> {
    let message = dynamic(&M::full_name(), value)?;
    M::decode(message.encode_to_vec().as_slice()).map_err(JsonError::Bytes)
}

/// Reads JSON as a message of type `name` (a full name or a type URL).
///
/// # Errors
/// When the JSON does not fit that type.
pub fn any_from_json(name: &str, value: Value) -> Result<Any, JsonError> {
    let name = type_name(name);
    Ok(Any { type_url: format!("type.googleapis.com/{name}"), value: dynamic(name, value)?.encode_to_vec() })
}

fn dynamic(name: &str, value: Value) -> Result<DynamicMessage, JsonError> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor(name)?, value, &options).map_err(JsonError::Json)
}

fn descriptor(name: &str) -> Result<MessageDescriptor, JsonError> {
    POOL.get_message_by_name(type_name(name)).ok_or_else(|| JsonError::UnknownType(name.to_owned()))
}

fn type_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

/// Why a message has no JSON, or JSON is no message.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// A type that is not among this crate's.
    #[error("unknown type {0}")]
    UnknownType(String),
    /// JSON that does not fit, or a message that has no JSON form.
    #[error("the JSON does not fit the message")]
    Json(#[source] serde_json::Error),
    /// Bytes that are no such message.
    #[error("the bytes are no such message")]
    Bytes(#[source] prost::DecodeError),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::envoy::config::{cluster::v3::Cluster, core::v3::Metadata};

    #[test]
    fn json_goes_both_ways_with_anys_opened() {
        let listener = json!({
            "name": "in",
            "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "cluster": "c", "stat_prefix": "s", "idle_timeout": "3600s"
            }}]}],
        });
        let any = any_from_json("envoy.config.listener.v3.Listener", listener.clone()).unwrap();
        assert_eq!(any.type_url, crate::type_url::LISTENER);
        assert_eq!(any_to_json(&any).unwrap(), listener);
    }

    #[test]
    fn unknown_fields_and_types_are_refused() {
        assert!(matches!(any_from_json("envoy.config.cluster.v3.Cluster", json!({"nam": "x"})), Err(JsonError::Json(_))));
        assert!(matches!(any_from_json("envoy.Nothing", json!({})), Err(JsonError::UnknownType(_))));
    }

    /// With hash maps a cluster with two metadata maps had 231 encodings in 1,000 builds.
    #[test]
    fn equal_messages_have_equal_bytes() {
        let build = || {
            let fields = |salt: &str| prost_types::Struct {
                fields: (0..5).map(|i| (format!("{salt}{i}"), prost_types::Value::default())).collect(),
            };
            let filter_metadata = ["a", "b"].map(|name| (name.to_owned(), fields(name))).into();
            Cluster { name: "c".into(), metadata: Some(Metadata { filter_metadata, ..Default::default() }), ..Default::default() }
                .encode_to_vec()
        };
        let first = build();
        assert!((0..100).all(|_| build() == first));
    }
}
