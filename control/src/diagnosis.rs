//! The codes of this room, 2101 to 2199, and what each one means.

/// One code: number, name, meaning, remedy.
pub type Code = (u16, &'static str, &'static str, &'static str);

/// The text is not valid TOML, or a value has the wrong type.
pub const SYNTAX: u16 = 2101;
/// A key that no plan has.
pub const UNKNOWN_KEY: u16 = 2102;
/// A key that must be given is not.
pub const MISSING_KEY: u16 = 2103;
/// A value outside its list or range.
pub const VALUE: u16 = 2104;
/// A malformed name.
pub const NAME: u16 = 2105;
/// Two things of one kind share a name.
pub const DUPLICATE: u16 = 2106;
/// A name that leads nowhere.
pub const UNKNOWN_NAME: u16 = 2107;
/// Two names hash to one id.
pub const ID_COLLISION: u16 = 2108;
/// A key without its secret or public key.
pub const SECRET_MISSING: u16 = 2109;
/// A secret that is not base64 of 32 bytes.
pub const SECRET_MALFORMED: u16 = 2110;
/// A public key that is not one.
pub const PUBLIC_MALFORMED: u16 = 2111;
/// More active keys than a primary and a secondary.
pub const TOO_MANY_KEYS: u16 = 2112;
/// A secret where a public key belongs, or the other way round.
pub const KEY_KIND: u16 = 2113;
/// An address range that is not one.
pub const ADDRESS: u16 = 2114;
/// An amount of bytes or time that cannot be read.
pub const AMOUNT: u16 = 2115;
/// A date and time without offset, or before 1970.
pub const EXPIRY: u16 = 2116;
/// The compiled table was refused.
pub const TABLE: u16 = 2117;
/// Partitions of a hub, or queue groups, otherwise than nodes have logs.
pub const LOGS_FIXED: u16 = 2189;
/// The plan file cannot be read.
pub const UNREADABLE: u16 = 2118;
/// A grant that leads into another account.
pub const FOREIGN: u16 = 2119;
/// A sealed secret that does not open.
pub const SEALED: u16 = 2120;
/// A token was asked for with a key that cannot sign one.
pub const TOKEN_KEY: u16 = 2121;
/// A token was asked for with a time that has passed.
pub const TOKEN_EXPIRY: u16 = 2122;
/// A key with an id that a key had that is no more.
pub const KEY_ID_USED: u16 = 2123;

/// A store that cannot be read or written.
pub const STORE_FAILED: u16 = 2130;
/// A store that another process has open.
pub const STORE_IN_USE: u16 = 2131;
/// A store with bytes that nobody wrote.
pub const STORE_DAMAGED: u16 = 2132;
/// A store of a form that is not known.
pub const STORE_FORMAT: u16 = 2133;
/// No master key.
pub const MASTER_KEY_MISSING: u16 = 2134;
/// A master key that others may read.
pub const MASTER_KEY_OPEN: u16 = 2135;
/// Another master key than the store's.
pub const MASTER_KEY_WRONG: u16 = 2136;
/// An audit log that was altered.
pub const AUDIT_BROKEN: u16 = 2137;
/// A backup that cannot be written.
pub const BACKUP_EXISTS: u16 = 2138;
/// A store that is not where it was.
pub const STORE_LOST: u16 = 2139;
/// A thing that somebody else changed meanwhile.
pub const CHANGED_MEANWHILE: u16 = 2140;

/// A thing that is not there.
pub const NOT_THERE: u16 = 2141;
/// A thing that is there already.
pub const ALREADY_THERE: u16 = 2142;
/// A new master key that is the old one.
pub const MASTER_KEY_SAME: u16 = 2143;
/// A node that is to go, and is the home of an endpoint.
pub const NODE_IS_HOME: u16 = 2146;
/// More things than an account may define.
pub const LIMIT: u16 = 2144;
/// A token that is not known, or no longer good.
pub const TOKEN_UNKNOWN: u16 = 2150;
/// A role that is too low.
pub const ROLE: u16 = 2151;
/// Something of another account.
pub const SCOPE: u16 = 2152;

/// A body that cannot be read.
pub const API_BODY: u16 = 2160;
/// A query that cannot be read.
pub const API_QUERY: u16 = 2161;
/// A condition that cannot be read.
pub const API_CONDITION: u16 = 2162;
/// A path that leads nowhere.
pub const API_ROUTE: u16 = 2163;
/// A method that a path has not.
pub const API_METHOD: u16 = 2164;
/// A body of another kind.
pub const API_KIND: u16 = 2165;
/// A name of a request that is taken.
pub const API_REPEATED: u16 = 2166;
/// A mistake of ours.
pub const API_BROKEN: u16 = 2167;
/// An API that cannot be served.
pub const API_FAILED: u16 = 2168;
/// An API without TLS that others could reach.
pub const API_PLAIN: u16 = 2169;
/// A certificate of the API that cannot be used.
pub const API_CERTIFICATE: u16 = 2170;
/// A body that is too long.
pub const API_TOO_LONG: u16 = 2171;

/// Every code this room can give.
pub const CODES: &[Code] = &[
    (
        SYNTAX,
        "plan_syntax",
        "The plan is not valid TOML, or a value has the wrong type.",
        "correct the line named in the message; `forebay config check` shows the result",
    ),
    (
        UNKNOWN_KEY,
        "plan_unknown_key",
        "The plan has a key that Forebay does not know; nothing is ignored silently.",
        "use the nearest name in the message, or remove the line",
    ),
    (
        MISSING_KEY,
        "plan_missing_key",
        "A key that has no default is missing from a table of the plan.",
        "add the key to the table at the line named",
    ),
    (
        VALUE,
        "plan_value",
        "A value of the plan is outside its list or its range.",
        "choose one of the values needed",
    ),
    (
        NAME,
        "plan_name",
        "A name is malformed. Full names are account/environment/name; each part has 1 to 80 letters, digits, '-', '_' or '.'.",
        "rename it",
    ),
    (
        DUPLICATE,
        "plan_duplicate",
        "Two things of one kind have the same name or number.",
        "rename or remove one of them",
    ),
    (
        UNKNOWN_NAME,
        "plan_unknown_name",
        "The plan refers to a name that it does not declare.",
        "use the nearest name in the message, or declare the missing one",
    ),
    (
        ID_COLLISION,
        "plan_id_collision",
        "Two names have the same id. Ids are hashes of names unless they are given.",
        "give one of the two an explicit `id =` that is free; keep it for good once data exists",
    ),
    (
        SECRET_MISSING,
        "plan_secret_missing",
        "A key of the plan has neither `secret` nor `public`.",
        "make one with `forebay keys new` and paste it",
    ),
    (
        SECRET_MALFORMED,
        "plan_secret_malformed",
        "A secret is not the base64 text of 32 bytes (44 characters, the last one '=').",
        "paste the whole line that `forebay keys new` printed",
    ),
    (
        PUBLIC_MALFORMED,
        "plan_public_malformed",
        "An Ed25519 public key is not the base64 text of a valid 32-byte key.",
        "paste the `public` line that `forebay keys new --kind ed25519` printed",
    ),
    (
        TOO_MANY_KEYS,
        "plan_too_many_keys",
        "An endpoint has more than two active keys in one direction; a primary and a secondary are enough to rotate without downtime.",
        "set `revoked = true` on the key that is going away, or remove it",
    ),
    (
        KEY_KIND,
        "plan_key_kind",
        "The kind of a key and what is given for it do not fit: `hmac-sha256` takes `secret`, `ed25519` takes `public`.",
        "give the one that the kind takes",
    ),
    (
        ADDRESS,
        "plan_address",
        "An address restriction is not an address or a CIDR range.",
        "write it like \"10.0.0.0/8\", \"192.168.1.7\" or \"fd00::/8\"",
    ),
    (
        AMOUNT,
        "plan_amount",
        "An amount of bytes or time cannot be read.",
        "write bytes like \"64MiB\" and times like \"30s\"",
    ),
    (
        EXPIRY,
        "plan_expiry",
        "A key's expiry is not a date and time with an offset after 1970.",
        "write it like 2027-01-31T00:00:00Z",
    ),
    (
        TABLE,
        "plan_table",
        "The plan is well formed, but the route table it gives is not allowed.",
        "change what the message names",
    ),
    (
        UNREADABLE,
        "plan_unreadable",
        "The plan file cannot be read.",
        "check the path under `[plan] file` and its permissions",
    ),
    (
        FOREIGN,
        "plan_foreign_account",
        "A grant names a channel of another account. What an account owns is reached by its own endpoints alone.",
        "grant a channel of the endpoint's own account",
    ),
    (
        SEALED,
        "plan_sealed",
        "A sealed secret does not open: it was sealed under another master key or for another key, or it was altered.",
        "use the master key of the store it comes from, or give the key a new `secret`",
    ),
    (
        TOKEN_KEY,
        "token_key",
        "A token can only be signed with a shared secret (base64 text of 32 bytes).",
        "use an `hmac-sha256` key",
    ),
    (
        TOKEN_EXPIRY,
        "token_expiry",
        "A token that expires in the past, or never, is of no use.",
        "choose a validity such as `--valid 1h`",
    ),
    (
        KEY_ID_USED,
        "key_id_used",
        "A new key has the id of one that was deleted, or a lower one than the highest so far. Ids of keys are not used again: whoever still has the old key must not pass for the new one.",
        "give the key a higher id",
    ),
    (
        STORE_FAILED,
        "store_failed",
        "The store of the control plane cannot be read or written.",
        "check that the disk has room and that the folder belongs to the user who runs Forebay",
    ),
    (
        STORE_IN_USE,
        "store_in_use",
        "Another process has the store open; one process has it at a time.",
        "ask the running one through its API, or stop it first",
    ),
    (
        STORE_DAMAGED,
        "store_damaged",
        "The store holds bytes that nobody wrote: the disk, or somebody, altered the file.",
        "restore the last backup with `forebay restore`; keep the damaged file",
    ),
    (
        STORE_FORMAT,
        "store_format",
        "The store was written by a version of Forebay with another form.",
        "run the version that wrote it",
    ),
    (
        MASTER_KEY_MISSING,
        "master_key_missing",
        "The master key that opens the secrets of the store was not found, or is malformed.",
        "give it as credential `forebay-master-key`, in FOREBAY_MASTER_KEY or in the file named",
    ),
    (
        MASTER_KEY_OPEN,
        "master_key_open",
        "The file with the master key may be read by others than its owner.",
        "chmod 0600 the file; if others could have read it, a rotation under the same key does not help: `forebay store rekey`, then rotate the keys of endpoints and make new tokens",
    ),
    (
        MASTER_KEY_WRONG,
        "master_key_wrong",
        "The store was made with another master key.",
        "give the master key it was made with",
    ),
    (
        AUDIT_BROKEN,
        "audit_broken",
        "The chain of the audit log is broken: a line was altered, left out or put in, or a thing was changed without one.",
        "keep the file as it is, find out who had access, restore the last good backup",
    ),
    (
        BACKUP_EXISTS,
        "backup_unwritten",
        "A backup cannot be written: there is a file of that name, or the folder cannot be written.",
        "choose a name that is free",
    ),
    (
        STORE_LOST,
        "store_lost",
        "The store of the control plane is empty or not there, and something beside it says that it was. An empty one in its place would end every session on every node.",
        "look whether its disk is mounted; restore the last backup with `forebay restore`; to begin anew with nothing, as after a first start that was cut off, start once with --new",
    ),
    (
        CHANGED_MEANWHILE,
        "changed_meanwhile",
        "Somebody else changed, created or deleted the same thing since it was read; nothing was overwritten.",
        "read it again and repeat the change",
    ),
    (
        NOT_THERE,
        "not_there",
        "There is no thing of that kind and name.",
        "use the nearest name in the message, or create it",
    ),
    (
        ALREADY_THERE,
        "already_there",
        "There is a thing of that kind and name already; creating never overwrites.",
        "change the one that is there, or choose another name",
    ),
    (
        MASTER_KEY_SAME,
        "master_key_same",
        "The master key was to be changed to the one that the store has.",
        "give a new one: --new-key with the name of a file that is not there makes it",
    ),
    (
        NODE_IS_HOME,
        "node_is_home",
        "A node cannot be deleted while endpoints are at home on it: nobody would serve them.",
        "give them another home, or none, in the same document or before; a node that is only to be sent away is disabled",
    ),
    (
        LIMIT,
        "account_limit",
        "An account would have more of something than its `limits` allow. Those are set by who sees all accounts.",
        "delete what is not needed, or have the limit raised",
    ),
    (
        TOKEN_UNKNOWN,
        "token_unknown",
        "The token of the API is not known, was deleted or has expired.",
        "ask an owner for a new one: `forebay tokens create`",
    ),
    (
        ROLE,
        "role",
        "The token's role does not allow this. Viewers look, operators revoke and rotate keys, admins define, owners manage accounts and tokens.",
        "use a token with the role needed",
    ),
    (
        SCOPE,
        "scope",
        "The token is for one account, and this is not of that account.",
        "use a token of that account, or one for all accounts",
    ),
    (
        API_BODY,
        "api_body",
        "The body of the request cannot be read.",
        "send one JSON value, as the OpenAPI document at /v1/openapi.json describes it",
    ),
    (
        API_QUERY,
        "api_query",
        "A value in the query of the request is not known, or cannot be read.",
        "use what the message names",
    ),
    (
        API_CONDITION,
        "api_condition",
        "The condition of the request cannot be read.",
        "send the ETag of the last answer in If-Match, with its quotes",
    ),
    (
        API_ROUTE,
        "api_route",
        "The API has no such path.",
        "see /v1/openapi.json",
    ),
    (
        API_METHOD,
        "api_method",
        "The API has this path, and not this method of it.",
        "see /v1/openapi.json",
    ),
    (
        API_KIND,
        "api_kind",
        "The body of the request is not said to be JSON.",
        "send Content-Type: application/json",
    ),
    (
        API_REPEATED,
        "api_repeated",
        "The Idempotency-Key names another request, or the same one that is still being carried out.",
        "take a new key for a new request; ask again in a second for the same one",
    ),
    (
        API_BROKEN,
        "api_broken",
        "Forebay made a mistake while it answered. Nothing half-done is left: a change is there whole, or not at all.",
        "look into the log, and report it",
    ),
    (
        API_FAILED,
        "api_failed",
        "The API cannot be served at its address.",
        "choose another `listen` under [control], or stop what has it",
    ),
    (
        API_PLAIN,
        "api_plain",
        "The API was to be served without TLS where other machines reach it; its tokens could be read on the way.",
        "listen on 127.0.0.1, or give it a certificate under [control.tls]",
    ),
    (
        API_CERTIFICATE,
        "api_certificate",
        "The certificate of the API and its key cannot be read, or are no pair.",
        "correct `certificate` and `key` under [control.tls]; `forebay cert dev` makes a pair for tests",
    ),
    (
        API_TOO_LONG,
        "api_too_long",
        "The body of the request has more bytes than may come: 1 MiB, or 16 MiB where a document of one account is applied and 256 MiB where one of all is.",
        "split the document; `forebay endpoint import` sends long lists in parts",
    ),
    (
        LOGS_FIXED,
        "logs_fixed",
        "A hub that there is, or was, would have another number of partitions, or all queues another number of groups: nodes made their logs by it, and would take no table any more.",
        "set the number back, or make a hub of another name",
    ),
];
