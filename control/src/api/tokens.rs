//! Tokens of the API itself.

use serde::Deserialize;
use serde_json::Value;

use super::call::{Answer, Call};
use super::problem::Problem;
use crate::model::{Moment, Noun, Role, Token};
use crate::service::{deleting, refused, there};

/// What `POST /v1/tokens` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    name: String,
    role: Role,
    account: Option<String>,
    expires: Option<Moment>,
}

/// `POST /v1/tokens`: the text is in this answer and never again.
pub(super) fn create(call: &Call<'_>) -> Result<Answer, Problem> {
    let order: Order = call.read()?;
    let token = Token {
        name: order.name,
        role: order.role,
        account: order.account,
        hash: String::new(),
        expires: order.expires,
    };
    let place = format!("{}/{}", call.route.path, token.name);
    let (text, outcome) = call.service.create_token(&call.caller, token)?;
    let mut answer = call.changed(&outcome, 201)?.at(place);
    let mut body: Value = serde_json::from_slice(&answer.body).expect("it was just written");
    body["token"] = text.as_str().into();
    answer.body = body.to_string().into_bytes();
    Ok(answer)
}

/// `DELETE /v1/tokens/{name}`.
pub(super) fn delete(call: &Call<'_>) -> Result<Answer, Problem> {
    let (name, expected) = (call.name(), call.expected()?);
    // One that the caller may not see is not there.
    call.service.show(&call.caller, Noun::Token, &name)?;
    let outcome = call
        .service
        .edit(&call.caller, "token delete", |catalog, _| {
            there(catalog, Noun::Token, &name).map_err(refused)?;
            Ok(vec![deleting(Noun::Token, &name, expected)])
        })?;
    call.changed(&outcome, 200)
}
