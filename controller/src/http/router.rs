//! The table of routes, kept as data: what is served is exactly what is listed.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use axum::{
    Router,
    extract::{Request, State},
    handler::Handler,
    middleware,
    response::IntoResponse as _,
    routing::{MethodFilter, MethodRouter},
};
use http::{HeaderValue, Method};
use tower_http::catch_panic::CatchPanicLayer;

use super::{Api, access::Level, describe::About, error::ApiError, headers};

/// One route.
#[derive(Debug, Clone)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path, with its parameters in braces.
    pub path: &'static str,
    /// What it asks of its caller.
    pub level: Level,
    /// Whether it may take as long as a deployment, a process or a change does.
    pub patient: bool,
    /// The file of its handler, which has the name of what it is about.
    pub file: &'static str,
    /// The name of its handler.
    pub handler: &'static str,
    /// What is said of it.
    pub about: About,
}

/// Collects routes.
#[derive(Default)]
pub(crate) struct Routes {
    table: Vec<Route>,
    handlers: BTreeMap<&'static str, MethodRouter<Api>>,
}

impl Routes {
    /// A `GET`, and with it a `HEAD`.
    pub(crate) fn get<H: Handler<T, Api>, T: 'static>(self, level: Level, path: &'static str, handler: H) -> Self {
        self.add(Method::GET, MethodFilter::GET, level, path, handler)
    }

    /// A `POST`.
    pub(crate) fn post<H: Handler<T, Api>, T: 'static>(self, level: Level, path: &'static str, handler: H) -> Self {
        self.add(Method::POST, MethodFilter::POST, level, path, handler)
    }

    /// A `PUT`.
    pub(crate) fn put<H: Handler<T, Api>, T: 'static>(self, level: Level, path: &'static str, handler: H) -> Self {
        self.add(Method::PUT, MethodFilter::PUT, level, path, handler)
    }

    /// A `DELETE`.
    pub(crate) fn delete<H: Handler<T, Api>, T: 'static>(self, level: Level, path: &'static str, handler: H) -> Self {
        self.add(Method::DELETE, MethodFilter::DELETE, level, path, handler)
    }

    /// Lets the route that was added last take its time.
    pub(crate) fn patient(mut self) -> Self {
        if let Some(route) = self.last() {
            route.patient = true;
        }
        self
    }

    /// The route that was added last.
    pub(super) fn last(&mut self) -> Option<&mut Route> {
        self.table.last_mut()
    }

    fn add<H: Handler<T, Api>, T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        level: Level,
        path: &'static str,
        handler: H,
    ) -> Self {
        let mut names = std::any::type_name::<H>().rsplit("::");
        let (name, file) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        self.table.push(Route { method, path, level, patient: false, file, handler: name, about: About::default() });
        let routes = self.handlers.remove(path).unwrap_or_default();
        self.handlers.insert(path, routes.on(filter, handler));
        self
    }

    /// The list.
    pub(crate) fn table(self) -> Vec<Route> {
        self.table
    }

    /// What serves it.
    pub(crate) fn router(self, api: &Api) -> Router {
        let table = Table::new(&self.table);
        let mut router = Router::new();
        for (path, handlers) in self.handlers {
            let level = self.table.iter().find(|route| route.path == path).map_or(Level::User, |route| route.level);
            let refuse = move |State(api): State<Api>, request: Request| async move {
                let (mut parts, _) = request.into_parts();
                match level.check(&mut parts, &api).await {
                    Ok(()) => ApiError::MethodNotAllowed(parts.method).into_response(),
                    Err(error) => error.into_response(),
                }
            };
            router = router.route(path, handlers.fallback(refuse));
        }
        router
            .fallback(|| async { ApiError::Unrouted })
            .layer(CatchPanicLayer::custom(headers::panicked))
            .layer(middleware::from_fn_with_state(table, headers::apply))
            .with_state(api.clone())
    }
}

/// What the layers need to know about the routes.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    allow: Arc<BTreeMap<&'static str, HeaderValue>>,
    patient: Arc<HashSet<(&'static str, Method)>>,
}

impl Table {
    fn new(routes: &[Route]) -> Self {
        let mut methods: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
        for route in routes {
            let of_path = methods.entry(route.path).or_default();
            of_path.push(route.method.as_str());
            if route.method == Method::GET {
                of_path.push("HEAD");
            }
        }
        let allow = methods
            .into_iter()
            .filter_map(|(path, mut methods)| {
                methods.push("OPTIONS");
                Some((path, HeaderValue::from_str(&methods.join(", ")).ok()?))
            })
            .collect();
        let patient =
            routes.iter().filter(|route| route.patient).map(|route| (route.path, route.method.clone())).collect();
        Self { allow: Arc::new(allow), patient: Arc::new(patient) }
    }

    /// The methods of a path, for the header of that name.
    pub(crate) fn allow(&self, path: &str) -> Option<HeaderValue> {
        self.allow.get(path).cloned()
    }

    /// Whether a route may take its time.
    pub(crate) fn is_patient(&self, path: &str, method: &Method) -> bool {
        self.patient.iter().any(|(patient, of)| *patient == path && of == method)
    }
}
