//! How many processes of each type are wanted (contract §2.8, §3.3).

use std::collections::BTreeMap;

use paas_api::{ProcessType, builds::Procfile};

use super::build::BuildKind;

/// Wanted number of processes of each type.
pub type Formation = BTreeMap<ProcessType, u32>;

/// Most processes of one type: a typing error must not take the machine down.
pub const MOST_OF_A_TYPE: u32 = 1000;

/// The formation with which a new build runs, given the one before.
///
/// `kinds` are the kinds of the build before (if any) and of the new one. An empty formation gets the default of its kind;
/// so does one whose kind changed; types that the Procfile dropped go to zero.
pub fn after_build(before: &Formation, procfile: &Procfile, kinds: (Option<BuildKind>, BuildKind)) -> Formation {
    let (old_kind, kind) = kinds;
    let kind_changed = old_kind.is_some_and(|old| old != kind);
    let mut formation = before.clone();
    if kind_changed {
        formation.insert(ProcessType::web(), 0);
        formation.insert(ProcessType::cmd(), 0);
    }
    let runs_itself = kind != BuildKind::Buildpack && !procfile.contains_key(&ProcessType::web());
    let mut dropped = false;
    for (process_type, count) in &mut formation {
        let known = procfile.contains_key(process_type) || (*process_type == ProcessType::cmd() && runs_itself);
        if !known {
            dropped |= *count > 0;
            *count = 0;
        }
    }
    let nothing_left = formation.values().all(|count| *count == 0);
    if before.is_empty() || kind_changed || (dropped && nothing_left) {
        formation.extend(default_of(procfile, kind));
    }
    formation
}

/// The formation of a first build (contract §3.3, step 1).
fn default_of(procfile: &Procfile, kind: BuildKind) -> Formation {
    let wanted = if procfile.contains_key(&ProcessType::web()) {
        ProcessType::web()
    } else if kind != BuildKind::Buildpack {
        ProcessType::cmd()
    } else if procfile.is_empty() {
        ProcessType::web()
    } else {
        return Formation::new();
    };
    Formation::from([(wanted, 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formation(of: &[(&str, u32)]) -> Formation {
        of.iter().map(|(name, count)| (name.parse().unwrap(), *count)).collect()
    }

    fn procfile(of: &[&str]) -> Procfile {
        of.iter().map(|name| (name.parse().unwrap(), "run".to_owned())).collect()
    }

    #[test]
    fn a_first_build_gets_the_default_of_its_kind() {
        use BuildKind::{Buildpack, Dockerfile, Image};
        let none = Formation::new();
        assert_eq!(after_build(&none, &procfile(&["web", "worker"]), (None, Dockerfile)), formation(&[("web", 1)]));
        assert_eq!(after_build(&none, &procfile(&["worker"]), (None, Dockerfile)), formation(&[("cmd", 1)]));
        assert_eq!(after_build(&none, &procfile(&[]), (None, Image)), formation(&[("cmd", 1)]));
        assert_eq!(after_build(&none, &procfile(&[]), (None, Buildpack)), formation(&[("web", 1)]));
        assert_eq!(after_build(&none, &procfile(&["worker"]), (None, Buildpack)), none);
    }

    #[test]
    fn a_later_build_keeps_the_scale() {
        let kinds = (Some(BuildKind::Dockerfile), BuildKind::Dockerfile);
        let before = formation(&[("web", 3), ("worker", 2)]);
        assert_eq!(after_build(&before, &procfile(&["web", "worker"]), kinds), before);
        assert_eq!(after_build(&formation(&[("cmd", 4)]), &procfile(&[]), kinds), formation(&[("cmd", 4)]));
    }

    #[test]
    fn a_type_that_the_procfile_dropped_goes_to_zero() {
        let kinds = (Some(BuildKind::Dockerfile), BuildKind::Dockerfile);
        let after = after_build(&formation(&[("web", 3), ("worker", 2)]), &procfile(&["web"]), kinds);
        assert_eq!(after, formation(&[("web", 3), ("worker", 0)]));
    }

    #[test]
    fn an_app_that_gets_a_procfile_moves_from_cmd_to_web() {
        let kinds = (Some(BuildKind::Dockerfile), BuildKind::Dockerfile);
        let after = after_build(&formation(&[("cmd", 2)]), &procfile(&["web"]), kinds);
        assert_eq!(after, formation(&[("cmd", 0), ("web", 1)]));
    }

    #[test]
    fn an_app_scaled_to_zero_on_purpose_stays_there() {
        let kinds = (Some(BuildKind::Dockerfile), BuildKind::Dockerfile);
        assert_eq!(after_build(&formation(&[("web", 0)]), &procfile(&["web"]), kinds), formation(&[("web", 0)]));
    }

    #[test]
    fn a_change_of_kind_starts_from_its_default() {
        let kinds = (Some(BuildKind::Buildpack), BuildKind::Dockerfile);
        let after = after_build(&formation(&[("web", 3)]), &procfile(&[]), kinds);
        assert_eq!(after, formation(&[("cmd", 1), ("web", 0)]));
    }
}
