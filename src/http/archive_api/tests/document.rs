//! The OpenAPI document says what is served, and what is served is as it says.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn document() -> Value {
    serde_json::from_str(openapi::DOCUMENT).unwrap()
}

/// Method and path of all that it documents.
fn documented() -> BTreeSet<(String, String)> {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect()
}

/// Asserts that the answer is one that the document has for this method and path.
#[track_caller]
pub(super) fn assert_documented(method: &str, path: &str, answer: &Answer) {
    let document = document();
    let documented = &document["paths"][path][method.to_lowercase()]["responses"][answer.status.to_string()];
    assert!(documented.is_object(), "{method} {path} has no answer {}: {answer:?}", answer.status);
    let response = resolved(&document, documented);
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let is_required = header["required"] == true;
        assert!(!is_required || answer.headers.contains_key(name), "{method} {path} has no header {name}");
    }
    let Some(schema) = response["content"]["application/json"].get("schema") else { return };
    // The schemas refer to each other by their place in the document.
    let schema = json!({"allOf": [schema], "components": document["components"]});
    let validator = jsonschema::options().build(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&answer.body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{method} {path} {}: {errors:#?} in {}", answer.status, answer.body);
}

fn resolved<'a>(document: &'a Value, object: &'a Value) -> &'a Value {
    match object["$ref"].as_str() {
        Some(place) => document.pointer(place.trim_start_matches('#')).unwrap(),
        None => object,
    }
}

#[test]
fn each_route_is_documented_and_each_documented_path_is_a_route() {
    let served = routes().into_iter().map(|(method, path, _)| (method.to_string(), path.to_owned()));
    assert_eq!(served.collect::<BTreeSet<_>>(), documented());
}

#[test]
fn each_reference_and_each_parameter_of_a_path_is_there() {
    let document = document();
    let mut left = vec![&document];
    let mut references = 0;
    while let Some(value) = left.pop() {
        if let Some(place) = value["$ref"].as_str() {
            assert!(document.pointer(place.trim_start_matches('#')).is_some(), "{place}");
            references += 1;
        }
        left.extend(value.as_object().into_iter().flat_map(|object| object.values()));
        left.extend(value.as_array().into_iter().flatten());
    }
    assert!(references > 5);
    for (method, path) in documented() {
        let operation = &document["paths"][&path][method.to_lowercase()];
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let named: BTreeSet<_> = parameters
            .map(|parameter| resolved(&document, parameter))
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        assert_eq!(named, in_path.map(str::to_owned).collect(), "{method} {path}");
    }
}

#[tokio::test]
async fn each_answer_is_as_the_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let world = World::start_with(|parts| parts.folder = path.clone()).await;
    world.say_something();
    let no_index = world.get("/api/v1/rooms", SECRET).await;
    assert_eq!(no_index.status, 503);
    assert_documented("GET", "/api/v1/rooms", &no_index);
    world.index_something(&path);
    let mut seen = BTreeSet::new();
    let rooms = "/api/v1/rooms";
    let room = "/api/v1/rooms/{room}/messages";
    for (path, asked, token, status) in [
        ("/api/v1/openapi.json", "/api/v1/openapi.json".to_owned(), "", 200),
        (rooms, "/api/v1/rooms?limit=1".to_owned(), SECRET, 200),
        (rooms, "/api/v1/rooms?since=never".to_owned(), SECRET, 400),
        (rooms, "/api/v1/rooms".to_owned(), &world.teacher_of_7(), 403),
        (room, "/api/v1/rooms/7/messages?limit=2".to_owned(), SECRET, 200),
        (room, "/api/v1/rooms/7/messages?limit=0".to_owned(), SECRET, 400),
        (room, "/api/v1/rooms/7/messages".to_owned(), "guessed", 401),
        (room, "/api/v1/rooms/8/messages".to_owned(), &world.teacher_of_7(), 403),
    ] {
        let answer = world.get(&asked, token).await;
        assert_eq!(answer.status, status, "{asked}: {answer:?}");
        assert_documented("GET", path, &answer);
        seen.insert(("GET".to_owned(), path.to_owned()));
    }
    // The others are asked in `streams` and `found`.
    let is_elsewhere =
        |path: &str| ["replays", "export", "lessons", "search"].iter().any(|word| path.contains(word));
    let here = documented().into_iter().filter(|(_, path)| !is_elsewhere(path));
    assert_eq!(seen, here.collect(), "each documented path was asked");
}

#[tokio::test]
async fn what_is_served_is_the_document_and_its_servers_schema_catches_what_differs() {
    let world = World::start().await;
    assert_eq!(world.get("/api/v1/openapi.json", "").await.body, document());
    world.say_something();
    let mut answer = world.get("/api/v1/rooms/7/messages", SECRET).await;
    answer.body["messages"][0]["secret"] = "x".into();
    let refused =
        std::panic::catch_unwind(|| assert_documented("GET", "/api/v1/rooms/{room}/messages", &answer));
    assert!(refused.is_err(), "a field that is not documented is found");
}
