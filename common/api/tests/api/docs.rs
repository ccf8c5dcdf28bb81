//! `/openapi.json` and the page that shows it.

use crate::support::Api;

#[tokio::test]
async fn the_document_is_served_to_whom_has_a_token() {
    let api = Api::global().await;
    let document = api.get("/openapi.json").await.expect(200).json();
    let whole = atoll_api::openapi::value(&atoll_model::labels::Viewpoint::Global).unwrap();
    assert!(document == whole, "it is the one that is checked in");
    for path in ["/openapi.json", "/docs", "/docs/docs.js", "/docs/docs.css", "/docs/offline"] {
        api.call(http::Method::GET, path, &[("authorization", "Bearer nobody")], "").await.expect(401);
        api.call(http::Method::GET, path, &[("authorization", "Bearer reader-token")], "").await.expect(200);
    }
}

#[tokio::test]
async fn the_page_needs_no_other_host_and_no_script_in_it() {
    let api = Api::global().await;
    let page = api.get("/docs").await.expect(200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    for path in ["/docs/docs.js", "/docs/docs.css"] {
        assert!(page.text.contains(path), "{path}");
        api.get(path).await.expect(200);
    }
    assert_eq!(page.text.matches("<script").count(), 1, "only the file");
    let offline = api.get("/docs/offline").await.expect(200).text;
    for (one, text) in [("page", &page.text), ("file", &offline)] {
        for loads in ["src=\"http", "href=\"http", "src=\"//", "@import", "innerHTML", " onclick="] {
            assert!(!text.contains(loads), "the {one} has {loads}");
        }
    }
    let (_, inside) = offline.split_once("type=\"application/json\">").unwrap();
    let (document, _) = inside.split_once("</script>").unwrap();
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
}
