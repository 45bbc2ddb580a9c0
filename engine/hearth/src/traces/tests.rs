use super::{headers, is_url, shown, url};

#[track_caller]
fn check(text: &str, expected: Option<&[(&str, &str)]>) {
    let found = headers(text);
    let found = found.as_ref().map(|found| {
        let pairs = found.iter();
        let pairs = pairs.map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let mut pairs: Vec<(&str, &str)> = pairs.collect();
        pairs.sort_unstable();
        pairs
    });
    assert_eq!(found.as_deref(), expected, "{text}");
}

#[test]
fn headers_are_read_as_the_specification_writes_them() {
    check("", Some(&[]));
    check("a=b", Some(&[("a", "b")]));
    check(
        " A = b , x-y = c%3Dd%2C ",
        Some(&[("a", "b"), ("x-y", "c=d,")]),
    );
    check(
        "authorization=Basic%20eA==",
        Some(&[("authorization", "Basic eA==")]),
    );
    check("a", None);
    check("a b=c", None);
    check("=c", None);
    check("a=%2", None);
    check("a=%zz", None);
    check("a=%0a", None);
    let shown = format!("{:?}", headers("authorization=s3cret").unwrap());
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn an_endpoint_is_a_base_or_the_whole_url_and_its_password_is_not_shown() {
    for (endpoint, expected) in [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp", "https://c/otlp/v1/traces"),
        ("https://c/v1/traces", "https://c/v1/traces"),
    ] {
        assert_eq!(url(endpoint), expected);
    }
    assert_eq!(shown("https://user:s3cret@c:4318/x?key=s3cret"), "c:4318");
    assert_eq!(shown("http://c:4318"), "c:4318");
    assert!(is_url("") && is_url("https://c"));
    assert!(!is_url("c:4318") && !is_url("http://") && !is_url("grpc://c"));
}
