//! A controller with a certificate that nobody vouches for.

use std::{fs, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{ServerConfig, crypto::ring};

use crate::{server::Server, world::World};

/// Made for these tests, for `paas.localhost`, valid until the year 2126.
const CERTIFICATE: &str = "MIIBpDCCAUqgAwIBAgIUDl0BcPXyTzOOEUZWLlan9prN+74wCgYIKoZIzj0EAwIwGTEXMBUGA1UEAwwOcGFhcy5sb2NhbGhvc3QwIBcNMjYxMTIxMTIwMjUzWhgPMjEyNjEwMjgxMjAyNTNaMBkxFzAVBgNVBAMMDnBhYXMubG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8T7EHn3Y1OiaiPOtpBsgJAXVp0lF9k+2C1w8qnNFABBDRXj2oJ1M1CL22b3KKHjTzt76qVqtxCwsUAZcAoEiF6NuMGwwHQYDVR0OBBYEFKPa+/Dqrw2Ds3v1sREg8bDSOjVeMB8GA1UdIwQYMBaAFKPa+/Dqrw2Ds3v1sREg8bDSOjVeMA8GA1UdEwEB/wQFMAMBAf8wGQYDVR0RBBIwEIIOcGFhcy5sb2NhbGhvc3QwCgYIKoZIzj0EAwIDSAAwRQIgHuWecwbyYSRfEvwQ/LLWEIeCJmd5ri6GwAlxXKOIKQ0CIQCE1wy3AVsJFQEXwrMJMHWRtedmetARBLhaU57AuaH80w==";
const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg1uEAPGnWmu+dXIIr2H+OhxlXcchsXEks0+JQOZP4XK+hRANCAATxPsQefdjU6JqI862kGyAkBdWnSUX2T7YLXDyqc0UAEENFePagnUzUIvbZvcooeNPO3vqpWq3ELCxQBlwCgSIX";

fn server() -> Server {
    let certificate = STANDARD.decode(CERTIFICATE).unwrap().into();
    let key = STANDARD.decode(KEY).unwrap().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let server = Server::start_with_tls(Arc::new(config));
    server.answer("GET /v2/", 401, "{}");
    server.answer("POST /v2/auth/login/", 200, r#"{"token":"c0ffee"}"#);
    server.answer("GET /v2/apps/?limit=100", 200, r#"{"count":0,"results":[]}"#);
    server
}

#[test]
fn an_unknown_certificate_is_refused_unless_the_user_says_otherwise() {
    let world = World::at(server());
    let address = world.controller().replace("http://", "https://");
    let login = ["login", &address, "--username=ann", "--password=hunter2"];
    let error = world.paas(&login).bad(1);
    assert!(error.starts_with("Error: no trusted connection to https://paas.localhost:"), "{error}");
    assert!(
        error.contains("hint: if the certificate is of your own making: paas login --ssl-verify=false\n"),
        "{error}"
    );
    assert!(world.server.requests().is_empty(), "the password stays here");

    world.paas(&[&login[..], &["--ssl-verify=false"]].concat()).good();
    assert!(fs::read_to_string(world.profile()).unwrap().contains("\"ssl_verify\":false"));
    assert_eq!(world.paas(&["apps"]).good(), "=== Apps\n");
}
