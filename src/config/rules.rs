//! Rules of a route: who may do what.

use super::file::{Entry, Refused, Section};
use crate::limits;
use crate::policy::identity::ClientId;
use crate::policy::route::{Mode, Route};
use crate::policy::rules::{Rule, Rules, Who};
use crate::s3::features::{Feature, FeatureSet};
use crate::s3::operation::{Group, Operations};
use crate::server::clients::ClientOptions;

/// What rules and routes may speak of: names in the order of the document, `None` for a section without one.
#[derive(Default)]
pub(super) struct Names {
    pub(super) clients: Vec<Option<String>>,
    pub(super) credentials: Vec<Option<String>>,
    /// Indexes of the clients with an access key.
    pub(super) keyed: Vec<usize>,
}

impl Names {
    /// Those of the document. Whether its sections are any good is for others to say.
    pub(super) fn read(root: &Section<'_>) -> Self {
        let keys = root.strings_in("client", "access-key");
        let keyed = keys.iter().enumerate().filter(|(_, key)| key.is_some()).map(|(index, _)| index).collect();
        Self { clients: root.strings_in("client", "name"), credentials: root.strings_in("credential", "name"), keyed }
    }

    fn client(&self, name: &str) -> Option<ClientId> {
        self.clients.iter().position(|known| known.as_deref() == Some(name)).map(ClientId)
    }
}

/// The rules of a route, whether or not it needs any.
pub(super) fn read(route: &Section<'_>, names: &Names) -> Result<Rules, Refused> {
    let mut lists = ["allow", "deny"].map(|key| {
        let sections = route.sections(key);
        if sections.len() > limits::RULES_MAX {
            return Err(route.error(key, format!("{} rules are more than {}", sections.len(), limits::RULES_MAX)));
        }
        let rules: Vec<_> = sections.iter().map(|section| rule(section, names, key == "deny")).collect();
        rules.into_iter().collect::<Result<Vec<_>, _>>()
    });
    let [allow, deny] = &mut lists;
    Ok(Rules::new(std::mem::replace(allow, Ok(Vec::new()))?, std::mem::replace(deny, Ok(Vec::new()))?))
}

fn rule(section: &Section<'_>, names: &Names, denies: bool) -> Result<Rule, Refused> {
    let clients = section.list("clients", |typed| client(typed, names));
    let operations = section.list("operations", operation);
    let prefixes = section.list("prefixes", prefix);
    let features = section.list("features", feature);
    for key in ["clients", "operations", "prefixes", "features"] {
        let means_none = key == "features" && !denies;
        if section.is_empty_list(key) && !means_none {
            section.error(key, "the list is empty, so the rule is about nothing; remove the line, or the rule");
        }
    }
    let who = who(section, clients?, names, denies);
    let (operations, features, prefixes) = (operations?, features?, prefixes?);
    if operations.is_none() && !denies {
        return Err(section.missing("operations"));
    }
    let (mut all, mut named) = (Operations::NONE, Operations::NONE);
    for Entry { value: (set, is_named), .. } in operations.iter().flatten() {
        all = all.and(*set);
        named = if *is_named { named.and(*set) } else { named };
    }
    let features = features.map(|entries| entries.into_iter().map(|entry| entry.value).collect::<FeatureSet>());
    Ok(Rule {
        who: who?,
        operations: if operations.is_some() { all } else { Operations::all() },
        named,
        prefixes: prefixes
            .map_or_else(|| vec![Vec::new()], |entries| entries.into_iter().map(|entry| entry.value).collect()),
        features: if denies { features } else { Some(features.unwrap_or_default()) },
    })
}

/// Whom a rule is about; `*` is `None`.
fn who(
    section: &Section<'_>,
    clients: Option<Vec<Entry<Option<ClientId>>>>,
    names: &Names,
    denies: bool,
) -> Result<Who, Refused> {
    let Some(clients) = clients else {
        return if denies { Ok(Who::All) } else { Err(section.missing("clients")) };
    };
    if let Some(all) = clients.iter().find(|entry| entry.value.is_none()) {
        if !denies && names.keyed.is_empty() {
            let message = "\"*\" is every client with an access key, and none has one; list the clients that are meant";
            return Err(section.report().error(&all.place, message));
        }
        if !denies && clients.iter().any(|entry| entry.value.is_some_and(|id| !names.keyed.contains(&id.0))) {
            let message = "\"*\" is every client with an access key; write another rule for those without one";
            return Err(section.report().error(&all.place, message));
        }
        return Ok(Who::All);
    }
    Ok(Who::Named(clients.into_iter().filter_map(|entry| entry.value).collect()))
}

fn client(typed: &str, names: &Names) -> Result<Option<ClientId>, String> {
    if typed == "*" {
        return Ok(None);
    }
    names.client(typed).map(Some).ok_or_else(|| {
        let known: Vec<_> = names.clients.iter().flatten().map(String::as_str).take(8).collect();
        let known = if known.is_empty() {
            "there is no [[client]]".to_string()
        } else {
            format!("known: {}", known.join(", "))
        };
        format!("no [[client]] is called {typed:?}; {known}")
    })
}

/// A group, or one operation and that it is named.
fn operation(typed: &str) -> Result<(Operations, bool), String> {
    if let Some(group) = Group::named(typed) {
        return Ok((group.operations(), false));
    }
    if let Some(one) = Operations::one(typed) {
        return Ok((one, true));
    }
    if typed == "*" {
        return Err("name the operations, or the groups read, write, delete, list, multipart".to_string());
    }
    let like = Operations::all().names().find(|name| name.eq_ignore_ascii_case(typed.trim_start_matches("s3:")));
    let group = Group::ALL.iter().map(|group| group.name()).find(|name| name.eq_ignore_ascii_case(typed));
    Err(match like.or(group) {
        Some(name) => format!("{typed:?} is no operation; did you mean {name:?}?"),
        None => format!(
            "{typed:?} is no operation of the S3 API (such as \"GetObject\") and no group (read, write, delete, list, \
             multipart)"
        ),
    })
}

fn feature(typed: &str) -> Result<Feature, String> {
    Feature::named(typed).ok_or_else(|| {
        let known: Vec<_> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        format!("{typed:?} is no feature; known: {}", known.join(", "))
    })
}

/// The beginning of keys, as they are when nothing is escaped.
fn prefix(typed: &str) -> Result<Vec<u8>, String> {
    if typed.starts_with('/') {
        return Err(format!("{typed:?}: keys do not begin with a slash; write {:?}", typed.trim_start_matches('/')));
    }
    if typed.len() > limits::KEY_BYTES_MAX {
        return Err(format!("it is longer than {} bytes, the longest key", limits::KEY_BYTES_MAX));
    }
    if typed.split('/').any(|segment| matches!(segment, "." | "..")) || typed.contains('\0') {
        return Err(format!("{typed:?}: no key with . or .. between its slashes is served here"));
    }
    if typed.ends_with('*') {
        return Err(format!("{typed:?}: a prefix is a beginning, not a pattern; leave the * out"));
    }
    Ok(typed.as_bytes().to_vec())
}

/// Warns of clients that no rule knows.
pub(super) fn warn(root: &Section<'_>, clients: &[ClientOptions], routes: &[Route]) {
    let may_something = |id: usize, is_keyed: bool| {
        let mut rules = routes.iter().filter_map(|route| match &route.mode {
            Mode::ReSign(resign) => Some(&resign.rules),
            Mode::PassThrough => None,
        });
        rules.any(|rules| rules.know(ClientId(id), is_keyed))
    };
    for (index, section) in root.sections("client").iter().enumerate() {
        let is_keyed = clients.get(index).is_some_and(|options| options.client.access_key.is_some());
        if !may_something(index, is_keyed) {
            section.warning("name", "no rule of any route allows this client anything");
        }
    }
}
