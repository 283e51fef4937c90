//! The API's own description, `OpenAPI` 3.1, made of the table of routes: `GET /v2/openapi.json`.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{Method, header::CONTENT_TYPE};
use paas_api::{API_VERSION, BUILDER_AUTH_HEADER, NDJSON, error::ErrorBody};
use utoipa::openapi::{
    ComponentsBuilder, Content as Media, HttpMethod, InfoBuilder, Object, ObjectBuilder, OpenApi, OpenApiBuilder,
    PathItem, PathsBuilder, RefOr, Required, Response as Described, ResponseBuilder, SecurityRequirement,
    path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    schema::{KnownFormat, SchemaFormat, Type},
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{
    access::Level,
    describe::{Content, Shapes, object},
    router::{Route, Routes},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get(Level::Anonymous, "/v2/openapi.json", show).says("This description").gives(200, object)
}

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document(&super::table()).to_json().unwrap_or_default().into());

async fn show() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

const INTRODUCTION: &str = "Deis Workflow's v2 API. Every answer carries the API's version in DEIS_API_VERSION. Paths \
                            may end with a slash. Methods that deploy answer when the deployment has ended, at once with \
                            `Prefer: respond-async`, or line by line with `Accept: application/x-ndjson`.";

/// The description of these routes.
pub fn document(table: &[Route]) -> OpenApi {
    let mut shapes = Shapes::default();
    let mut paths = PathsBuilder::new();
    for route in table {
        // The builder of paths puts the methods of one path together.
        paths = paths.path(route.path, PathItem::new(method(&route.method), operation(route, &mut shapes)));
    }
    let mut components = ComponentsBuilder::new().schemas_from_iter(shapes.0);
    for (name, scheme) in schemes() {
        components = components.security_scheme(name, scheme);
    }
    let info = InfoBuilder::new().title("paas").version(API_VERSION).description(Some(INTRODUCTION)).build();
    OpenApiBuilder::new().info(info).paths(paths.build()).components(Some(components.build())).build()
}

fn method(method: &Method) -> HttpMethod {
    match method.as_str() {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

const TOKEN: &str = "token";
const BUILDER: &str = "builder";
const ROUTER: &str = "router";

fn schemes() -> [(&'static str, SecurityScheme); 3] {
    let token = ApiKeyValue::with_description("Authorization", "A user's: `token <40 hexadecimal digits>`");
    let builder = ApiKeyValue::with_description(BUILDER_AUTH_HEADER, "The builder's key");
    let router = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The routers' token")).build();
    [
        (TOKEN, SecurityScheme::ApiKey(ApiKey::Header(token))),
        (BUILDER, SecurityScheme::ApiKey(ApiKey::Header(builder))),
        (ROUTER, SecurityScheme::Http(router)),
    ]
}

fn operation(route: &Route, shapes: &mut Shapes) -> Operation {
    let scheme = match route.level {
        Level::Anonymous => None,
        Level::User | Level::App | Level::AppOwner | Level::Admin => Some(TOKEN),
        Level::Builder => Some(BUILDER),
        Level::Router => Some(ROUTER),
    };
    let mut operation = OperationBuilder::new()
        .operation_id(Some(format!("{}.{}", route.file, route.handler)))
        .tag(route.file)
        .summary(Some(route.about.summary))
        .securities(Some(scheme.map(|name| SecurityRequirement::new(name, [""; 0]))));
    for parameter in parameters(route) {
        operation = operation.parameter(parameter);
    }
    if let Some((shape, required)) = route.about.body
        && let Content::Json(schema) = shape(shapes)
    {
        let required = if required { Required::True } else { Required::False };
        let body = RequestBodyBuilder::new().content("application/json", Media::new(Some(*schema)));
        operation = operation.request_body(Some(body.required(Some(required)).build()));
    }
    let mut answers: BTreeMap<u16, ResponseBuilder> = BTreeMap::new();
    for (status, shape) in &route.about.answers {
        answers.insert(*status, answer(route, shape(shapes)));
    }
    if route.about.deploys {
        // A followed deployment is told line by line, whatever its end.
        let lines =
            answers.remove(&200).unwrap_or_else(|| ResponseBuilder::new().description("The deployment's lines"));
        answers.insert(200, lines.content(NDJSON, Media::new(Some(plain(Type::String)))));
    }
    for (status, answer) in answers {
        operation = operation.response(status.to_string(), answer.build());
    }
    for status in refusals(route) {
        operation = operation.response(status.to_string(), refusal(status, shapes));
    }
    operation.build()
}

fn answer(route: &Route, content: Content) -> ResponseBuilder {
    let answer = ResponseBuilder::new().description(route.about.summary);
    match content {
        Content::Nothing => answer,
        Content::Text(kind) => answer.content(kind, Media::new(Some(plain(Type::String)))),
        Content::Json(schema) => answer.content("application/json", Media::new(Some(*schema))),
    }
}

fn refusal(status: u16, shapes: &mut Shapes) -> RefOr<Described> {
    let words = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut refusal = ResponseBuilder::new()
        .description(words.unwrap_or_default())
        .content("application/json", Media::new(Some(shapes.of::<ErrorBody>())));
    if status == 404 {
        // A path whose parts have the wrong letters is like one that is not there (contract §1.0.4).
        refusal = refusal.content("text/html", Media::new(Some(plain(Type::String))));
    }
    refusal.build().into()
}

/// All statuses of a route's refusals, each once.
fn refusals(route: &Route) -> Vec<u16> {
    let of_level: &[u16] = match route.level {
        Level::Anonymous => &[],
        Level::User | Level::Router => &[401],
        Level::Admin | Level::Builder => &[401, 403],
        Level::App | Level::AppOwner => &[401, 403, 404],
    };
    let of_body: &[u16] = if route.about.body.is_some() { &[400, 408, 413, 415] } else { &[] };
    // A router takes a name for itself; other parameters name what must be there.
    let of_path: &[u16] = if route.path.contains('{') && route.level != Level::Router { &[404] } else { &[] };
    // Whatever is asked for in a form that nobody here writes, …
    let of_form: &[u16] = if route.path.starts_with("/v2") { &[406] } else { &[] };
    // … and whatever needs the database while it is away.
    let of_database: &[u16] = if ["/healthz", "/v2/openapi.json"].contains(&route.path) { &[] } else { &[503] };
    let of_deployment: &[u16] = if route.about.deploys { &[400, 409] } else { &[] };
    let mut all = [of_level, of_body, of_path, of_form, of_database, of_deployment, route.about.refusals].concat();
    all.sort_unstable();
    all.dedup();
    all
}

fn plain(of: Type) -> Object {
    ObjectBuilder::new().schema_type(of).build()
}

fn parameters(route: &Route) -> Vec<Parameter> {
    let in_path = route.path.split(['{', '}']).skip(1).step_by(2);
    let path = in_path.map(|name| {
        let (about, schema) = part(name);
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(about))
            .schema(Some(schema))
    });
    let query = route.about.query.iter().map(|name| {
        let (about, schema) = part(name);
        let query = ParameterBuilder::new().name(*name).parameter_in(ParameterIn::Query);
        query.required(Required::False).description(Some(about)).schema(Some(schema))
    });
    let prefer = route.about.deploys.then(|| {
        let values = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["respond-async"]));
        let prefer = ParameterBuilder::new().name("Prefer").parameter_in(ParameterIn::Header);
        prefer.required(Required::False).description(Some("Not to wait for the deployment")).schema(Some(values))
    });
    path.chain(query).chain(prefer).map(ParameterBuilder::build).collect()
}

/// What is known of a part of a path or of a query.
fn part(name: &str) -> (&'static str, Object) {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    let (about, schema) = match name {
        "app" => ("Name of the app", text.pattern(Some("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"))),
        "version" => ("A release: `v3`", text.pattern(Some("^v[1-9][0-9]{0,8}$"))),
        "uuid" => ("Id", text.format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))),
        "limit" => ("Most rows of the answer; 100 when absent", number),
        "offset" => ("Rows to leave out", number),
        "log_lines" => ("Most lines of the past; 100 when absent", number),
        "after" => ("Version of the table that the router has", number),
        "follow" => ("Whether what comes is sent as it comes", plain(Type::Boolean).into()),
        "username" => ("Name of the user", text.min_length(Some(1))),
        "fingerprint" => ("Fingerprint of the key, in MD5 or SHA-256 form", text.min_length(Some(1))),
        "type" => ("Process type: `web`", text.min_length(Some(1))),
        "domain" => ("Host name", text.min_length(Some(1))),
        _ => ("Name", text.min_length(Some(1))),
    };
    (about, schema.build())
}
