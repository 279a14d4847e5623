//! The OpenAPI document, made from the table of routes.

use serde_json::{Map, Value, json};

use super::routes::{Method, Route, routes};
use super::schema;

/// The document, OpenAPI 3.1.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for route in routes() {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.name().to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Forebay control plane",
            "version": "1",
            "description": "Who may send what where. Every answer that is not a success is application/problem+json with a stable code.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schema::schemas(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    for part in route.path.split('/') {
        let name = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'));
        if let Some(name) = name {
            let schema = schema::parameter(route, name);
            parameters
                .push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
        }
    }
    for name in route.query {
        let schema = schema::query(route, name);
        parameters
            .push(json!({ "name": name, "in": "query", "required": false, "schema": schema }));
    }
    if changes(route) {
        let schema = schema::condition();
        parameters.push(
            json!({ "name": "If-Match", "in": "header", "required": false, "schema": schema }),
        );
    }
    if route.method == Method::Post {
        let schema = schema::idempotency_key();
        parameters.push(json!({ "name": "Idempotency-Key", "in": "header", "required": false, "schema": schema }));
    }
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "description": format!("Takes the role `{}` or more.", route.role.name()),
        "tags": [route.noun.name()],
        "parameters": parameters,
        "responses": responses(route),
    });
    if let Some(schema) = route.body {
        let kind = match route.method {
            Method::Patch => "application/merge-patch+json",
            _ => "application/json",
        };
        operation["requestBody"] = json!({
            "required": true,
            "content": { kind: { "schema": schema::reference(schema) } },
        });
    }
    if route.open {
        operation["security"] = json!([]);
    }
    operation
}

fn responses(route: &Route) -> Value {
    let (status, schema) = route.answer;
    let kind = match schema {
        "Backup" => super::system::BACKUP_KIND,
        _ => "application/json",
    };
    let done = |text: &str| {
        json!({
            "description": text,
            "content": { kind: { "schema": schema::reference(schema) } },
        })
    };
    let mut responses = json!({
        "default": {
            "description": "refused, with the reason",
            "content": { "application/problem+json": { "schema": schema::reference("Problem") } },
        },
    });
    responses[status.to_string()] = done("done");
    if route.method == Method::Put && status == 200 {
        responses["201"] = done("made");
    }
    responses
}

/// Whether a version may be asked for.
fn changes(route: &Route) -> bool {
    let creates = route.method == Method::Post && !route.path.contains("/{name}");
    route.method != Method::Get && !creates
}

/// `list_accounts`, `post_rotate`: unique, from method and path.
fn operation_id(route: &Route) -> String {
    let fixed = route.path.split('/').skip(2);
    let parts = fixed.map(|part| part.trim_matches(['{', '}']).replace('.', "_"));
    let parts: Vec<String> = parts.collect();
    format!("{}_{}", route.method.name().to_lowercase(), parts.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reference_leads_to_a_schema_and_every_operation_has_its_own_id() {
        let document = document();
        let schemas = document["components"]["schemas"]
            .as_object()
            .expect("schemas");
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().expect("a name");
            assert!(schemas.contains_key(name), "{name}");
        }
        let ids: BTreeSet<String> = routes().map(operation_id).collect();
        assert_eq!(ids.len(), routes().count());
    }

    #[test]
    fn no_two_routes_are_the_same() {
        let all: BTreeSet<_> = routes()
            .map(|route| (route.path, route.method.name()))
            .collect();
        assert_eq!(all.len(), routes().count());
    }
}
