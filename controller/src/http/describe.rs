//! What a route takes and answers, said beside the route: the API's description is made of it (`openapi`), and nothing is
//! served that is not described.

use std::collections::BTreeMap;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema, schema::SchemaType, schema::Type},
};

use super::router::{Route, Routes};

/// What is said of a route.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// What it does, in a few words.
    pub summary: &'static str,
    /// What may follow the path, after a question mark.
    pub query: &'static [&'static str],
    /// What its body may be, and whether there must be one.
    pub body: Option<(Shape, bool)>,
    /// Its answers when it went well, by status.
    pub answers: Vec<(u16, Shape)>,
    /// Statuses of its refusals, beyond those that its level and its body bring along.
    pub refusals: &'static [u16],
    /// Whether it deploys: the client says whether it waits, and may follow line by line.
    pub deploys: bool,
}

/// A body's form; what it is made of is added to the shapes that have names.
pub type Shape = fn(&mut Shapes) -> Content;

/// A body.
pub enum Content {
    /// None.
    Nothing,
    /// Plain text, by its media type.
    Text(&'static str),
    /// JSON of a form.
    Json(Box<RefOr<Schema>>),
}

impl Content {
    fn json(form: impl Into<RefOr<Schema>>) -> Self {
        Self::Json(Box::new(form.into()))
    }
}

/// The shapes that have names.
#[derive(Default)]
pub struct Shapes(pub(super) BTreeMap<String, RefOr<Schema>>);

impl Shapes {
    /// A reference to a type's shape.
    pub(super) fn of<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let name = T::name().into_owned();
        if !self.0.contains_key(&name) {
            let mut parts = Vec::new();
            T::schemas(&mut parts);
            self.0.extend(parts);
            self.0.insert(name.clone(), T::schema());
        }
        Ref::from_schema_name(name).into()
    }
}

/// No body.
pub(super) fn nothing(_: &mut Shapes) -> Content {
    Content::Nothing
}

/// Text.
pub(super) fn text(_: &mut Shapes) -> Content {
    Content::Text("text/plain")
}

/// A page for people.
pub(super) fn html(_: &mut Shapes) -> Content {
    Content::Text("text/html")
}

/// One of a type.
pub(super) fn one<T: ToSchema>(shapes: &mut Shapes) -> Content {
    Content::json(shapes.of::<T>())
}

/// Several of a type.
pub(super) fn each<T: ToSchema>(shapes: &mut Shapes) -> Content {
    Content::json(ArrayBuilder::new().items(shapes.of::<T>()))
}

/// A page of a list of a type (contract §1.0.5).
pub(super) fn page<T: ToSchema>(shapes: &mut Shapes) -> Content {
    let page = ObjectBuilder::new()
        .property("count", i64::schema())
        .property("next", Option::<String>::schema())
        .property("previous", Option::<String>::schema())
        .property("results", ArrayBuilder::new().items(shapes.of::<T>()))
        .required("count")
        .required("next")
        .required("previous")
        .required("results");
    Content::json(page)
}

/// Values of a type, by name.
pub(super) fn by_name<T: PartialSchema>(_: &mut Shapes) -> Content {
    let values = ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(T::schema()));
    Content::json(values)
}

/// An object with a form of its own.
pub(super) fn object(_: &mut Shapes) -> Content {
    Content::json(ObjectBuilder::new().schema_type(Type::Object))
}

/// Anything.
pub(super) fn anything(_: &mut Shapes) -> Content {
    Content::json(ObjectBuilder::new().schema_type(SchemaType::AnyValue))
}

impl Routes {
    /// Says what the route that was added last does.
    pub(super) fn says(self, summary: &'static str) -> Self {
        self.about(|route| route.about.summary = summary)
    }

    /// Says what may follow its path, after a question mark.
    pub(super) fn asks(self, query: &'static [&'static str]) -> Self {
        self.about(|route| route.about.query = query)
    }

    /// Says what its body must be.
    pub(super) fn takes(self, body: Shape) -> Self {
        self.about(|route| route.about.body = Some((body, true)))
    }

    /// Says what its body may be.
    pub(super) fn may_take(self, body: Shape) -> Self {
        self.about(|route| route.about.body = Some((body, false)))
    }

    /// Says what it answers when it went well.
    pub(super) fn gives(self, status: u16, body: Shape) -> Self {
        self.about(|route| route.about.answers.push((status, body)))
    }

    /// Says that it answers with a page of a list.
    pub(super) fn lists<T: ToSchema>(self) -> Self {
        self.asks(&["limit", "offset"]).gives(200, page::<T>)
    }

    /// Says how it refuses.
    pub(super) fn refuses(self, statuses: &'static [u16]) -> Self {
        self.about(|route| route.about.refusals = statuses)
    }

    /// Says that it deploys, and lets it take its time.
    pub(super) fn deploys(self) -> Self {
        self.patient().about(|route| route.about.deploys = true)
    }

    fn about(mut self, say: impl FnOnce(&mut Route)) -> Self {
        if let Some(route) = self.last() {
            say(route);
        }
        self
    }
}
