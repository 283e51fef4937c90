//! The laws of a rollout, proved on a small world in which plans are carried out and things go wrong.

use super::*;

/// A world whose scheduler, routers and ledger are as simple as they can be.
struct World {
    situation: Situation,
    next: u32,
    outcome: Option<Result<(), Failure>>,
    log: Vec<Action>,
}

fn version(number: i32) -> ReleaseVersion {
    ReleaseVersion::new(number).unwrap()
}

fn formation(of: &[(&str, u32)]) -> Formation {
    of.iter().map(|(name, count)| (name.parse().unwrap(), *count)).collect()
}

impl World {
    fn new() -> Self {
        let situation = Situation {
            release: None,
            formation: Formation::new(),
            serving: None,
            deployment: None,
            instances: Vec::new(),
            services: ServedTypes::new(),
            strangers: BTreeSet::new(),
        };
        Self { situation, next: 0, outcome: None, log: Vec::new() }
    }

    /// A world in which this release runs, routed, with nothing left to do.
    fn running(release: i32, of: &[(&str, u32)]) -> Self {
        let mut world = Self::new();
        world.deploy(release, of);
        world.settle();
        assert_eq!(world.outcome, Some(Ok(())));
        world
    }

    fn deploy(&mut self, release: i32, of: &[(&str, u32)]) {
        self.situation.release = Some(version(release));
        self.situation.formation = formation(of);
        self.situation.deployment = Some(Rollout { status: Status::Pending, overdue: false, published: false });
        self.outcome = None;
    }

    fn instance(&mut self, name: &InstanceName) -> &mut Instance {
        self.situation.instances.iter_mut().find(|instance| instance.name == *name).unwrap()
    }

    fn carry_out(&mut self, action: &Action) {
        self.log.push(action.clone());
        match action {
            Action::Begin => self.situation.deployment.as_mut().unwrap().status = Status::Starting,
            Action::Add(process_type, count) => {
                for _ in 0..*count {
                    self.next += 1;
                    self.situation.instances.push(Instance {
                        name: format!("i{}", self.next).parse().unwrap(),
                        process_type: process_type.clone(),
                        release: self.situation.release.unwrap(),
                        replace: false,
                        fresh: self.situation.deployment.is_some(),
                        routed: false,
                        reachable: true,
                        health: Health::Missing,
                        fate: Fate::Kept,
                    });
                }
            }
            Action::Start(process_type, release) => {
                for instance in &mut self.situation.instances {
                    if instance.process_type == *process_type
                        && instance.release == *release
                        && instance.health == Health::Missing
                    {
                        instance.health = Health::Starting { exits: 0 };
                    }
                }
            }
            Action::Route(names) => {
                for instance in &mut self.situation.instances {
                    instance.routed = names.contains(&instance.name);
                }
                if let Some(rollout) = &mut self.situation.deployment {
                    rollout.status = Status::Switching;
                    rollout.published = false;
                }
            }
            Action::Drain(names) => {
                for name in names {
                    self.instance(name).fate = Fate::Draining { drained: false };
                }
            }
            Action::Stop(names) => names.iter().for_each(|name| {
                self.instance(name).fate = Fate::Stopping;
                self.instance(name).health = Health::Stopping;
            }),
            Action::Forget(names) => self.situation.instances.retain(|instance| !names.contains(&instance.name)),
            Action::Succeed(unwanted) => {
                self.carry_out(&Action::Drain(unwanted.clone()));
                self.situation.serving = self.situation.release;
                self.end(Ok(()));
            }
            Action::Fail(failure) => {
                self.situation.release = self.situation.serving;
                self.end(Err(failure.clone()));
            }
        }
    }

    fn end(&mut self, outcome: Result<(), Failure>) {
        self.situation.deployment = None;
        self.situation.instances.iter_mut().for_each(|instance| instance.fresh = false);
        self.outcome = Some(outcome);
    }

    /// Carries out one plan; whether there was one.
    fn step(&mut self) -> bool {
        let actions = plan(&self.situation);
        for action in &actions {
            self.carry_out(action);
        }
        !actions.is_empty()
    }

    /// Lets everything that can happen by itself happen.
    fn pass_time(&mut self) {
        if let Some(rollout) = &mut self.situation.deployment {
            rollout.published = true;
        }
        for instance in &mut self.situation.instances {
            match instance.health {
                Health::Starting { exits: 0 } => instance.health = Health::Ready,
                Health::Stopping => instance.health = Health::Missing,
                _ => {}
            }
            if let Fate::Draining { drained } = &mut instance.fate {
                *drained = true;
            }
        }
    }

    /// Steps and time until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..50 {
            let before = self.situation.instances.clone();
            let busy = self.step();
            self.assert_laws();
            self.pass_time();
            if !busy && before == self.situation.instances && self.situation.deployment.is_none() {
                return;
            }
        }
        panic!("it never settles: {:#?}", self.situation);
    }

    fn assert_laws(&self) {
        for instance in self.situation.instances.iter().filter(|instance| instance.routed) {
            assert_eq!(instance.health, Health::Ready, "visitors are sent to {instance:?}");
            assert_eq!(instance.fate, Fate::Kept, "visitors are sent to {instance:?}");
        }
    }

    fn routed(&self) -> Vec<(i32, &str)> {
        let routed = self.situation.instances.iter().filter(|instance| instance.routed);
        routed.map(|instance| (instance.release.number(), instance.process_type.as_str())).collect()
    }
}

#[test]
fn a_first_release_starts_and_is_routed() {
    let world = World::running(2, &[("web", 2), ("worker", 1)]);
    assert_eq!(world.routed(), [(2, "web"), (2, "web")]);
    assert_eq!(world.situation.instances.len(), 3);
    assert!(plan(&world.situation).is_empty());
}

#[test]
fn the_old_release_serves_until_the_new_one_is_ready() {
    let mut world = World::running(2, &[("web", 2)]);
    world.deploy(3, &[("web", 2)]);
    world.step();
    world.step();
    world.step();
    assert_eq!(world.routed(), [(2, "web"), (2, "web")]);
    world.settle();
    assert_eq!(world.routed(), [(3, "web"), (3, "web")]);
    assert_eq!(world.situation.instances.len(), 2);
}

#[test]
fn switch_comes_before_drain_and_drain_before_stop() {
    let mut world = World::running(2, &[("web", 1)]);
    world.log.clear();
    world.deploy(3, &[("web", 1)]);
    world.settle();
    let place = |wanted: fn(&Action) -> bool| world.log.iter().position(wanted).unwrap();
    let switch = place(|action| matches!(action, Action::Route(_)));
    let succeed = place(|action| matches!(action, Action::Succeed(_)));
    let drain = place(|action| matches!(action, Action::Drain(_)));
    let stop = place(|action| matches!(action, Action::Stop(_)));
    assert!(switch < succeed && succeed < drain && drain < stop, "{:?}", world.log);
}

#[test]
fn with_a_deployment_ends_what_it_replaced() {
    let mut world = World::running(2, &[("web", 2), ("worker", 1)]);
    world.deploy(3, &[("web", 2)]);
    while world.outcome.is_none() {
        world.step();
        let kept = world.situation.instances.iter().filter(|instance| instance.fate == Fate::Kept);
        assert!(world.outcome.is_none() || kept.clone().all(|instance| instance.release == version(3)));
        world.pass_time();
    }
}

#[test]
fn nothing_succeeds_before_the_routers_have_the_table() {
    let mut world = World::running(2, &[("web", 1)]);
    world.deploy(3, &[("web", 1)]);
    for _ in 0..10 {
        world.step();
        world
            .situation
            .instances
            .iter_mut()
            .filter(|i| i.health == Health::Starting { exits: 0 })
            .for_each(|i| i.health = Health::Ready);
    }
    assert_eq!(world.outcome, None);
    assert_eq!(world.situation.deployment.unwrap().status, Status::Switching);
    world.settle();
    assert_eq!(world.outcome, Some(Ok(())));
}

#[test]
fn a_crash_loop_fails_and_the_old_release_never_leaves() {
    let mut world = World::running(2, &[("web", 1)]);
    world.deploy(3, &[("web", 1)]);
    for _ in 0..3 {
        world.step();
    }
    let new = world.situation.instances.iter_mut().find(|instance| instance.release == version(3)).unwrap();
    new.health = Health::Starting { exits: EXITS_BEFORE_FAILURE };
    let name = new.name.clone();
    world.settle();
    assert_eq!(world.outcome, Some(Err(Failure::Crashed(name))));
    assert_eq!(world.routed(), [(2, "web")]);
    assert_eq!(world.situation.instances.len(), 1);
}

#[test]
fn a_release_that_never_gets_ready_fails_when_time_is_up() {
    let mut world = World::running(2, &[("web", 1)]);
    world.deploy(3, &[("web", 1)]);
    for _ in 0..3 {
        world.step();
    }
    assert_eq!(plan(&world.situation), []);
    world.situation.deployment.as_mut().unwrap().overdue = true;
    world.step();
    assert!(matches!(world.outcome, Some(Err(Failure::NotReady(_)))));
    world.settle();
    assert_eq!(world.routed(), [(2, "web")]);
}

#[test]
fn scaling_up_adds_and_scaling_down_keeps_the_ready_ones() {
    let mut world = World::running(2, &[("web", 1)]);
    world.deploy(2, &[("web", 3)]);
    world.settle();
    assert_eq!(world.routed().len(), 3);
    let oldest = world.situation.instances.first().unwrap().name.clone();
    world.instance(&oldest).health = Health::Starting { exits: 1 };
    world.instance(&oldest).routed = false;
    world.deploy(2, &[("web", 1)]);
    let actions = plan(&world.situation);
    let Some(Action::Route(names)) = actions.into_iter().find(|action| matches!(action, Action::Route(_))) else {
        panic!()
    };
    assert!(!names.contains(&oldest) && names.len() == 1);
}

#[test]
fn scaling_to_zero_leaves_nothing() {
    let mut world = World::running(2, &[("web", 2)]);
    world.deploy(2, &[("web", 0)]);
    world.settle();
    assert!(world.situation.instances.is_empty());
}

#[test]
fn a_restart_replaces_one_by_one_others() {
    let mut world = World::running(2, &[("web", 2)]);
    let old: Vec<InstanceName> = world.situation.instances.iter().map(|instance| instance.name.clone()).collect();
    world.situation.instances.iter_mut().for_each(|instance| instance.replace = true);
    world.deploy(2, &[("web", 2)]);
    world.step();
    assert_eq!(world.routed().len(), 2);
    world.settle();
    assert_eq!(world.routed().len(), 2);
    assert!(world.situation.instances.iter().all(|instance| !old.contains(&instance.name)));
}

#[test]
fn an_instance_that_dies_loses_its_visitors_and_gets_them_back() {
    let mut world = World::running(2, &[("web", 2)]);
    let name = world.situation.instances.first().unwrap().name.clone();
    world.instance(&name).health = Health::Starting { exits: 1 };
    world.step();
    assert_eq!(world.routed().len(), 1);
    world.instance(&name).health = Health::Ready;
    world.step();
    assert_eq!(world.routed().len(), 2);
}

#[test]
fn an_old_instance_that_dies_in_a_rollout_comes_back_too() {
    let mut world = World::running(2, &[("web", 1)]);
    let name = world.situation.instances.first().unwrap().name.clone();
    world.deploy(3, &[("web", 1)]);
    world.step();
    world.instance(&name).health = Health::Starting { exits: 1 };
    world.step();
    assert_eq!(world.routed(), []);
    world.instance(&name).health = Health::Ready;
    world.step();
    assert_eq!(world.routed(), [(2, "web")]);
}

#[test]
fn what_the_engine_lost_is_started_again() {
    let mut world = World::running(2, &[("web", 1)]);
    let name = world.situation.instances.first().unwrap().name.clone();
    world.instance(&name).health = Health::Missing;
    world.step();
    assert_eq!(world.instance(&name).health, Health::Starting { exits: 0 });
}

#[test]
fn a_stop_that_was_recorded_and_not_carried_out_is_carried_out() {
    let mut world = World::running(2, &[("web", 1)]);
    let mut left = world.situation.instances.first().unwrap().clone();
    left.name = "left".parse().unwrap();
    left.routed = false;
    left.fate = Fate::Stopping;
    world.situation.instances.push(left);
    assert_eq!(plan(&world.situation), [Action::Stop(vec!["left".parse().unwrap()])]);
    world.settle();
    assert_eq!(world.situation.instances.len(), 1);
}

#[test]
fn a_move_from_cmd_to_web_moves_the_visitors() {
    let mut world = World::running(2, &[("cmd", 1)]);
    world.deploy(3, &[("cmd", 0), ("web", 1)]);
    world.step();
    assert_eq!(world.routed(), [(2, "cmd")]);
    world.settle();
    assert_eq!(world.routed(), [(3, "web")]);
}

#[test]
fn what_visitors_reach_by_path_moves_with_the_rest() {
    let sorted = |world: &World| {
        let mut routed: Vec<(i32, String)> =
            world.routed().into_iter().map(|(release, name)| (release, name.to_owned())).collect();
        routed.sort_unstable();
        routed
    };
    let web_and_hooks = |release: i32| ["hooks", "hooks", "web"].map(|name| (release, name.to_owned()));
    let mut world = World::running(1, &[("web", 1), ("hooks", 2), ("worker", 1)]);
    assert_eq!(world.routed(), [(1, "web")]);
    // Its processes listen on no port.
    world.situation.services = ServedTypes::from(["hooks".parse().unwrap()]);
    world.situation.instances.iter_mut().for_each(|one| one.reachable = one.process_type.as_str() != "hooks");
    world.settle();
    assert_eq!(world.routed(), [(1, "web")]);
    world.situation.instances.iter_mut().for_each(|one| one.reachable = true);
    world.settle();
    assert_eq!(sorted(&world), web_and_hooks(1));
    world.deploy(2, &[("web", 1), ("hooks", 2), ("worker", 1)]);
    world.settle();
    assert_eq!(sorted(&world), web_and_hooks(2));
    // Without web, only by path.
    world.situation.formation = formation(&[("web", 0), ("hooks", 1), ("worker", 1)]);
    world.settle();
    assert_eq!(world.routed(), [(2, "hooks")]);
    world.situation.services.clear();
    world.settle();
    assert!(world.routed().is_empty());
}
