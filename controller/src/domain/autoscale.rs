//! Growing and shrinking by load: from what processes use to how many there shall be (contract §1.12).
//!
//! The rule is that of a cluster's horizontal autoscaler, so that an app behaves the same here and there: the wanted
//! number is the present one times the use over the target, rounded up; small differences are let be; it grows at once, by
//! as much again at most; and it shrinks only to the most that was wanted over a while.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use paas_api::ProcessType;
use serde::{Deserialize, Serialize};

use super::formation::MOST_OF_A_TYPE;

/// A difference of up to so many parts of a thousand is let be.
const TOLERANCE: u64 = 100;
/// A type may grow by so many at a time, whatever its number.
const LEAST_GROWTH: u32 = 4;

/// How often to look, and how careful to be.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time between two looks.
    pub period: Duration,
    /// An app shrinks only when less was wanted for so long.
    pub steady: Duration,
}

/// How many processes of a type there may be, and what each shall use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// At least so many.
    pub min: u32,
    /// At most so many.
    pub max: u32,
    /// Use of the processor that is aimed at, in percent of what a process asks for.
    pub cpu_percent: u32,
}

/// The rules of an app.
pub type Rules = BTreeMap<ProcessType, Rule>;

impl Rule {
    /// What is wrong with it, if anything.
    pub fn trouble(self) -> Option<String> {
        if self.min == 0 {
            Some("min must be at least 1".to_owned())
        } else if self.max < self.min {
            Some("max must not be less than min".to_owned())
        } else if self.max > MOST_OF_A_TYPE {
            Some(format!("max must not be more than {MOST_OF_A_TYPE}"))
        } else if self.cpu_percent == 0 || self.cpu_percent > 1000 {
            Some("cpu_percent must be between 1 and 1000".to_owned())
        } else {
            None
        }
    }

    /// Whether a number of processes is within the rule. None at all is somebody's own wish.
    pub fn allows(self, count: u32) -> bool {
        count == 0 || (self.min..=self.max).contains(&count)
    }
}

/// What was wanted lately of one type.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Seconds on some clock, and the number that was wanted then.
    wanted: VecDeque<(u64, u32)>,
}

/// What is known of one type at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// How many processes there shall be now.
    pub count: u32,
    /// What each of those that are ready and measured uses, in percent of what it asks for.
    pub percents: Vec<u64>,
}

/// How many there shall be, if another number than now. `now`: seconds on the clock of the history; `steady`: for how long
/// it must have been wanted before anything shrinks.
pub fn decide(rule: Rule, load: &Load, history: &mut History, now: u64, steady: Duration) -> Option<u32> {
    // Scaled to none: somebody wants it to rest.
    if load.count == 0 {
        history.wanted.clear();
        return None;
    }
    let wanted = recommend(rule, load);
    history.wanted.push_back((now, wanted));
    let begin = now.saturating_sub(steady.as_secs());
    while history.wanted.front().is_some_and(|(moment, _)| *moment < begin) {
        history.wanted.pop_front();
    }
    let most = history.wanted.iter().map(|(_, wanted)| *wanted).max().unwrap_or(wanted);
    let target = if wanted >= load.count { wanted } else { most.min(load.count) };
    let limit = load.count.saturating_mul(2).max(load.count.saturating_add(LEAST_GROWTH));
    let target = target.min(limit).clamp(rule.min, rule.max);
    (target != load.count).then_some(target)
}

/// What the present use alone asks for.
fn recommend(rule: Rule, load: &Load) -> u32 {
    let measured = u64::try_from(load.percents.len()).unwrap_or(u64::MAX);
    if measured == 0 {
        return load.count.clamp(rule.min, rule.max);
    }
    let sum: u64 = load.percents.iter().sum();
    let target = u64::from(rule.cpu_percent);
    // Use over target, in parts of a thousand.
    let ratio = sum.saturating_mul(1000) / measured / target;
    if ratio.abs_diff(1000) <= TOLERANCE {
        return load.count.clamp(rule.min, rule.max);
    }
    // One that is not measured yet is taken not to use anything when it would grow, and to use what it shall when it would
    // shrink: what has just started must not drive either.
    let missing = u64::from(load.count).saturating_sub(measured);
    let all = if ratio > 1000 { sum } else { sum.saturating_add(missing.saturating_mul(target)) };
    let wanted = all.div_ceil(target).max(1);
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    // What would turn round with the missing ones is let be.
    let wanted = if (ratio > 1000) == (wanted > load.count) { wanted } else { load.count };
    wanted.clamp(rule.min, rule.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { min: 1, max: 10, cpu_percent: 50 };
    const STEADY: Duration = Duration::from_secs(300);

    fn load(count: u32, percents: &[u64]) -> Load {
        Load { count, percents: percents.to_vec() }
    }

    fn once(rule: Rule, count: u32, percents: &[u64]) -> Option<u32> {
        decide(rule, &load(count, percents), &mut History::default(), 1000, STEADY)
    }

    #[test]
    fn it_grows_with_the_use() {
        assert_eq!(once(RULE, 1, &[100]), Some(2));
        assert_eq!(once(RULE, 2, &[100, 80]), Some(4));
        assert_eq!(once(RULE, 3, &[90, 90, 90]), Some(6));
        assert_eq!(once(RULE, 8, &[90; 8]), Some(10), "not beyond its most");
        assert_eq!(once(RULE, 1, &[1000]), Some(5), "and not by leaps");
        assert_eq!(once(Rule { max: 100, ..RULE }, 10, &[500; 10]), Some(20));
    }

    #[test]
    fn small_differences_are_let_be() {
        for percent in 45..=55 {
            assert_eq!(once(RULE, 4, &[percent; 4]), None, "{percent}");
        }
        assert_eq!(once(RULE, 4, &[56; 4]), Some(5));
        assert_eq!(once(RULE, 4, &[51, 49, 0, 100]), None);
    }

    #[test]
    fn bounds_hold_whatever_the_use() {
        assert_eq!(once(Rule { min: 3, ..RULE }, 1, &[50]), Some(3));
        assert_eq!(once(Rule { max: 2, ..RULE }, 5, &[500; 5]), Some(2));
        assert_eq!(once(Rule { min: 3, ..RULE }, 3, &[0; 3]), None);
        assert_eq!(once(RULE, 0, &[]), None, "what rests is left to rest");
        assert_eq!(once(Rule { min: 2, ..RULE }, 1, &[]), Some(2), "also when nothing is known");
        assert_eq!(once(RULE, 4, &[]), None);
    }

    #[test]
    fn it_shrinks_only_when_less_was_wanted_for_a_while() {
        let mut history = History::default();
        let mut at = |now, percent| decide(RULE, &load(4, &[percent; 4]), &mut history, now, STEADY);
        assert_eq!(at(0, 50), None);
        for now in (15..=300).step_by(15) {
            assert_eq!(at(now, 5), None, "{now}");
        }
        assert_eq!(at(315, 5), Some(1));
    }

    #[test]
    fn it_shrinks_to_the_most_that_was_wanted() {
        let mut history = History::default();
        let mut at = |now, percent| decide(RULE, &load(8, &[percent; 8]), &mut history, now, STEADY);
        assert_eq!(at(0, 50), None);
        assert_eq!(at(200, 30), None);
        assert_eq!(at(400, 5), Some(5), "a peak of 30 % of eight wants five");
    }

    #[test]
    fn use_that_goes_up_and_down_does_not_make_it_flap() {
        let (mut history, mut count, mut changes) = (History::default(), 2, 0);
        for step in 0..200_u64 {
            // The same work in all, now more and now less of it.
            let work = if step % 2 == 0 { 160 } else { 40 };
            let percent = work / u64::from(count);
            let load = load(count, &vec![percent; count as usize]);
            if let Some(next) = decide(RULE, &load, &mut history, step * 15, STEADY) {
                (count, changes) = (next, changes + 1);
            }
        }
        assert_eq!((count, changes), (4, 1));
    }

    #[test]
    fn what_has_just_started_does_not_drive() {
        assert_eq!(once(RULE, 2, &[100]), None, "the second may take its half");
        assert_eq!(once(RULE, 2, &[200]), Some(4));
        let mut history = History::default();
        assert_eq!(decide(RULE, &load(4, &[5]), &mut history, 1000, Duration::ZERO), None, "three may be busy soon");
        assert_eq!(decide(RULE, &load(4, &[5, 5, 5]), &mut history, 1001, Duration::ZERO), Some(2));
    }

    #[test]
    fn a_rule_makes_sense() {
        assert_eq!(RULE.trouble(), None);
        for rule in [
            Rule { min: 0, ..RULE },
            Rule { min: 11, ..RULE },
            Rule { max: MOST_OF_A_TYPE + 1, ..RULE },
            Rule { cpu_percent: 0, ..RULE },
            Rule { cpu_percent: 1001, ..RULE },
        ] {
            assert!(rule.trouble().is_some(), "{rule:?}");
        }
        assert!(RULE.allows(0) && RULE.allows(1) && RULE.allows(10) && !RULE.allows(11));
    }
}
