//! Every route of the API, once.

use super::call::{Answer, Call};
use super::problem::Problem;
use super::{grants, keys, nodes, system, things, tokens};
use crate::model::{Noun, Role};

/// Answers a question.
pub(super) type Handler = fn(&Call<'_>) -> Result<Answer, Problem>;

/// What may be done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Look.
    Get,
    /// Make, or do.
    Post,
    /// Replace.
    Put,
    /// Change in part.
    Patch,
    /// Delete.
    Delete,
}

impl Method {
    /// As HTTP has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path; parts in braces are parameters.
    pub path: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// The least role it takes; a change may take more.
    pub role: Role,
    /// Whether strangers may ask.
    pub open: bool,
    /// Values of the query.
    pub query: &'static [&'static str],
    /// Name of the schema of its body, if it takes one.
    pub body: Option<&'static str>,
    /// Status of the answer when it is done, and the name of its schema.
    pub answer: (u16, &'static str),
    /// What it is about.
    pub noun: Noun,
    /// Whether its body may be a long document.
    pub(super) document: bool,
    pub(super) handler: Handler,
}

const ACCOUNTS: &str = "/v1/accounts";
const ACCOUNT: &str = "/v1/accounts/{account}";
const ENVIRONMENTS: &str = "/v1/accounts/{account}/environments";
const ENVIRONMENT: &str = "/v1/accounts/{account}/environments/{environment}";
const HUBS: &str = "/v1/accounts/{account}/environments/{environment}/hubs";
const HUB: &str = "/v1/accounts/{account}/environments/{environment}/hubs/{name}";
const CHANNELS: &str = "/v1/accounts/{account}/environments/{environment}/channels";
const CHANNEL: &str = "/v1/accounts/{account}/environments/{environment}/channels/{name}";
const ENDPOINTS: &str = "/v1/accounts/{account}/environments/{environment}/endpoints";
const ENDPOINT: &str = "/v1/accounts/{account}/environments/{environment}/endpoints/{name}";
const KEYS: &str = "/v1/accounts/{account}/environments/{environment}/endpoints/{name}/keys";
const KEY: &str = "/v1/accounts/{account}/environments/{environment}/endpoints/{name}/keys/{key}";
const REVOKE: &str =
    "/v1/accounts/{account}/environments/{environment}/endpoints/{name}/keys/{key}/revoke";
const RESTORE: &str =
    "/v1/accounts/{account}/environments/{environment}/endpoints/{name}/keys/{key}/restore";
const EXPIRE: &str =
    "/v1/accounts/{account}/environments/{environment}/endpoints/{name}/keys/{key}/expire";
const ROTATE: &str = "/v1/accounts/{account}/environments/{environment}/endpoints/{name}/rotate";
const GRANTS: &str = "/v1/accounts/{account}/environments/{environment}/endpoints/{name}/grants";
const GRANT: &str =
    "/v1/accounts/{account}/environments/{environment}/endpoints/{name}/grants/{allow}/{channel}";
const WHY: &str =
    "/v1/accounts/{account}/environments/{environment}/endpoints/{name}/why/{allow}/{channel}";
const NODES: &str = "/v1/nodes";
const NODE: &str = "/v1/nodes/{name}";
const TOKENS: &str = "/v1/tokens";
const TOKEN: &str = "/v1/tokens/{name}";

const PAGE: &[&str] = &["limit", "after"];
const WHO: &[&str] = &[
    "key",
    "address",
    "origin",
    "body_bytes",
    "at",
    "transport",
    "certificate",
    "node",
];
const WAIT: &[&str] = &["wait"];
const GONE: &[&str] = &["wait", "cascade"];

/// A route that looks.
const fn get(
    path: &'static str,
    noun: Noun,
    summary: &'static str,
    query: &'static [&'static str],
    answer: &'static str,
    handler: Handler,
) -> Route {
    Route {
        method: Method::Get,
        path,
        summary,
        role: Role::Viewer,
        open: false,
        query,
        body: None,
        answer: (200, answer),
        noun,
        document: false,
        handler,
    }
}

/// A route that changes something.
const fn change(
    method: Method,
    path: &'static str,
    noun: Noun,
    (role, summary): (Role, &'static str),
    (body, status): (Option<&'static str>, u16),
    handler: Handler,
) -> Route {
    Route {
        method,
        path,
        summary,
        role,
        open: false,
        query: WAIT,
        body,
        answer: (status, "Change"),
        noun,
        document: false,
        handler,
    }
}

/// A route with these values of the query instead.
const fn asking(mut route: Route, query: &'static [&'static str]) -> Route {
    route.query = query;
    route
}

/// A route with this answer instead.
const fn giving(mut route: Route, schema: &'static str) -> Route {
    route.answer.1 = schema;
    route
}

macro_rules! things {
    ($noun:expr, $role:expr, $all:expr, $one:expr, $schema:literal, $page:literal, $word:literal) => {
        [
            get(
                $all,
                $noun,
                concat!("list ", $word, "s"),
                PAGE,
                $page,
                things::list,
            ),
            change(
                Method::Post,
                $all,
                $noun,
                ($role, concat!("create ", $word, "s")),
                (Some(concat!("New", $schema)), 201),
                things::create,
            ),
            get(
                $one,
                $noun,
                concat!("show ", $word, "s"),
                &[],
                $schema,
                things::show,
            ),
            change(
                Method::Put,
                $one,
                $noun,
                ($role, concat!("replace ", $word, "s")),
                (Some(concat!($schema, "Put")), 200),
                things::replace,
            ),
            change(
                Method::Patch,
                $one,
                $noun,
                ($role, concat!("change ", $word, "s")),
                (Some(concat!($schema, "Patch")), 200),
                things::merge,
            ),
            asking(
                change(
                    Method::Delete,
                    $one,
                    $noun,
                    ($role, concat!("delete ", $word, "s")),
                    (None, 200),
                    things::delete,
                ),
                GONE,
            ),
        ]
    };
}

const ACCOUNT_ROUTES: [Route; 6] = things!(
    Noun::Account,
    Role::Owner,
    ACCOUNTS,
    ACCOUNT,
    "Account",
    "AccountPage",
    "account"
);
const ENVIRONMENT_ROUTES: [Route; 6] = things!(
    Noun::Environment,
    Role::Admin,
    ENVIRONMENTS,
    ENVIRONMENT,
    "Environment",
    "EnvironmentPage",
    "environment"
);
const HUB_ROUTES: [Route; 6] = things!(Noun::Hub, Role::Admin, HUBS, HUB, "Hub", "HubPage", "hub");
const CHANNEL_ROUTES: [Route; 6] = things!(
    Noun::Channel,
    Role::Admin,
    CHANNELS,
    CHANNEL,
    "Channel",
    "ChannelPage",
    "channel"
);
/// Operators may switch endpoints on and off, so the role is looked at when the change is known.
const ENDPOINT_ROUTES: [Route; 6] = things!(
    Noun::Endpoint,
    Role::Operator,
    ENDPOINTS,
    ENDPOINT,
    "Endpoint",
    "EndpointPage",
    "endpoint"
);

/// Who nodes are is no secret of an account; how far each is, and who is one, is the business of those of all accounts.
const NODE_ROUTES: [Route; 6] = {
    let mut routes = things!(
        Noun::Node,
        Role::Owner,
        NODES,
        NODE,
        "Node",
        "NodePage",
        "node"
    );
    routes[0].handler = nodes::list;
    routes[2].handler = nodes::show;
    // Nothing is within a node.
    routes[5].query = WAIT;
    routes
};

const KEY_ROUTES: [Route; 13] = [
    get(
        WHY,
        Noun::Endpoint,
        "say what an endpoint may do and why",
        WHO,
        "Reasons",
        grants::why,
    ),
    get(
        KEYS,
        Noun::Endpoint,
        "list keys",
        &[],
        "KeyPage",
        keys::list,
    ),
    giving(
        change(
            Method::Post,
            KEYS,
            Noun::Endpoint,
            (Role::Admin, "create keys"),
            (Some("KeyOrder"), 201),
            keys::create,
        ),
        "NewKey",
    ),
    get(KEY, Noun::Endpoint, "show keys", &[], "Key", keys::show),
    change(
        Method::Delete,
        KEY,
        Noun::Endpoint,
        (Role::Admin, "delete keys"),
        (None, 200),
        keys::delete,
    ),
    change(
        Method::Post,
        REVOKE,
        Noun::Endpoint,
        (Role::Operator, "revoke keys"),
        (None, 200),
        keys::revoke,
    ),
    change(
        Method::Post,
        RESTORE,
        Noun::Endpoint,
        (Role::Operator, "restore keys"),
        (None, 200),
        keys::restore,
    ),
    change(
        Method::Post,
        EXPIRE,
        Noun::Endpoint,
        (Role::Operator, "expire keys"),
        (Some("KeyEnd"), 200),
        keys::expire,
    ),
    giving(
        change(
            Method::Post,
            ROTATE,
            Noun::Endpoint,
            (Role::Operator, "rotate keys"),
            (Some("Rotation"), 201),
            keys::rotate,
        ),
        "NewKey",
    ),
    get(
        GRANTS,
        Noun::Endpoint,
        "list grants",
        &[],
        "GrantPage",
        grants::list,
    ),
    get(
        GRANT,
        Noun::Endpoint,
        "show grants",
        &[],
        "Grant",
        grants::show,
    ),
    change(
        Method::Put,
        GRANT,
        Noun::Endpoint,
        (Role::Admin, "set grants"),
        (Some("GrantPut"), 200),
        grants::put,
    ),
    change(
        Method::Delete,
        GRANT,
        Noun::Endpoint,
        (Role::Admin, "delete grants"),
        (None, 200),
        grants::delete,
    ),
];

const SYSTEM_ROUTES: [Route; 11] = [
    Route {
        open: true,
        ..get(
            "/v1/openapi.json",
            Noun::Settings,
            "describe this API",
            &[],
            "OpenApi",
            system::document,
        )
    },
    get(
        "/v1/status",
        Noun::Settings,
        "tell what is in force",
        &[],
        "Status",
        system::status,
    ),
    get(
        "/v1/audit",
        Noun::Settings,
        "read the audit log",
        PAGE,
        "AuditPage",
        system::audit,
    ),
    Route {
        document: true,
        ..get(
            "/v1/audit/verify",
            Noun::Settings,
            "check the audit log",
            &[],
            "Verdict",
            system::verify,
        )
    },
    Route {
        role: Role::Owner,
        document: true,
        ..get(
            "/v1/backup",
            Noun::Settings,
            "copy everything",
            &[],
            "Backup",
            system::backup,
        )
    },
    Route {
        document: true,
        ..get(
            "/v1/export",
            Noun::Settings,
            "export a document",
            &["secrets"],
            "Model",
            system::export,
        )
    },
    Route {
        document: true,
        ..giving(
            change(
                Method::Post,
                "/v1/apply",
                Noun::Settings,
                (Role::Viewer, "apply a document"),
                (Some("Apply"), 200),
                system::apply,
            ),
            "Applied",
        )
    },
    Route {
        role: Role::Owner,
        ..get(
            TOKENS,
            Noun::Token,
            "list tokens",
            PAGE,
            "TokenPage",
            things::list,
        )
    },
    giving(
        change(
            Method::Post,
            TOKENS,
            Noun::Token,
            (Role::Owner, "create tokens"),
            (Some("TokenOrder"), 201),
            tokens::create,
        ),
        "NewToken",
    ),
    Route {
        role: Role::Owner,
        ..get(
            TOKEN,
            Noun::Token,
            "show tokens",
            &[],
            "Token",
            things::show,
        )
    },
    change(
        Method::Delete,
        TOKEN,
        Noun::Token,
        (Role::Owner, "delete tokens"),
        (None, 200),
        tokens::delete,
    ),
];

/// Every route, by what it is about.
static GROUPS: [&[Route]; 8] = [
    &ACCOUNT_ROUTES,
    &ENVIRONMENT_ROUTES,
    &HUB_ROUTES,
    &CHANNEL_ROUTES,
    &ENDPOINT_ROUTES,
    &NODE_ROUTES,
    &KEY_ROUTES,
    &SYSTEM_ROUTES,
];

/// Every route.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    GROUPS.into_iter().flatten()
}
