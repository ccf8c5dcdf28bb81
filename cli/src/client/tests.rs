use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// Answers one connection after the other with these texts; an empty one is a connection lost. Gives what it was sent.
async fn serve(answers: Vec<&'static str>) -> (Client, Arc<Mutex<Vec<String>>>) {
    tls::install_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sent = seen.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4096];
            let n = stream.read(&mut bytes).await.unwrap();
            sent.lock().unwrap().push(String::from_utf8_lossy(&bytes[..n]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let retries =
        Retries { tries: 4, first_wait: Duration::from_millis(1), longest_wait: Duration::from_millis(5), tell: |_| () };
    let client = Client {
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        place: Where { url, context: "test".to_owned(), has_certificate: false },
        token: None,
        retries,
    };
    (client, seen)
}

const BUSY: &str = "HTTP/1.1 503 X\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const DONE: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

fn keys(seen: &Mutex<Vec<String>>) -> Vec<String> {
    let requests = seen.lock().unwrap();
    let key = |text: &String| text.lines().find(|line| line.starts_with("idempotency-key:")).unwrap_or_default().to_owned();
    requests.iter().map(key).collect()
}

#[tokio::test]
async fn a_write_is_repeated_with_its_key_until_it_is_answered() {
    let (client, seen) = serve(vec!["", BUSY, DONE]).await;
    let answer = client.call(Method::PUT, &["meshes", "a"], &[], Some(("application/json", "{}".to_owned()))).await.unwrap();
    assert_eq!(answer.status, 200);
    let keys = keys(&seen);
    assert_eq!(keys.len(), 3);
    assert!(keys[0].len() > 30 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn each_write_has_its_own_key_and_a_read_has_none() {
    let (client, seen) = serve(vec![DONE, DONE, DONE]).await;
    for method in [Method::DELETE, Method::DELETE, Method::GET] {
        client.call(method, &["meshes", "a"], &[], None).await.unwrap();
    }
    let keys = keys(&seen);
    assert!(keys[0] != keys[1] && !keys[1].is_empty() && keys[2].is_empty(), "{keys:?}");
}

#[tokio::test]
async fn the_tries_end() {
    let (client, seen) = serve(vec![BUSY; 10]).await;
    assert_eq!(client.call(Method::DELETE, &[], &[], None).await.unwrap().status, 503);
    assert_eq!(seen.lock().unwrap().len(), 4);
    assert_eq!(client.call(Method::GET, &[], &[], None).await.unwrap().status, 503);
    assert_eq!(seen.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn who_is_not_there_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut client, _) = serve(vec![]).await;
    client.place.url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    client.retries.tell = |text| panic!("{text}");
    let error = client.call(Method::PUT, &[], &[], None).await.unwrap_err().to_string();
    assert!(error.contains("context \"test\"") && error.contains(client.url().as_str()), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    let answer = |status: u16, text: &str| Answer {
        status: StatusCode::from_u16(status).unwrap(),
        text: text.to_owned(),
        place: Where { url: "https://cp:5682".parse().unwrap(), context: "prod".to_owned(), has_certificate: false },
    };
    for (status, text, parts) in [
        (401, r#"{"title":"x","detail":"Unauthenticated: the token expired"}"#, &["\"prod\" expired", "--token-file"][..]),
        (401, r#"{"title":"x","detail":"no"}"#, &["does not accept", "reset-operator", "https://cp:5682"]),
        (
            400,
            r#"{"title":"Could not delete a resource","detail":"Resource is not valid","invalid_parameters":[{"field":"mesh","reason":"still 2 dataplanes: a, b"}]}"#,
            &["Could not delete", "mesh: still 2 dataplanes: a, b"],
        ),
        (502, "<html>", &["502", "<html>"]),
    ] {
        let error = answer(status, text).refuse().unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
