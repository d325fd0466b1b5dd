//! Explores all states of a setting: safety by stateright, and, over the same edges, whether one can get stuck.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::properties::PROPERTIES;
use crate::setting::Setting;
use crate::world::{Action, World};

/// What came of a search.
pub struct Found {
    pub states: usize,
    pub depth: usize,
    pub took: Duration,
    /// States with more attempts than the setting looks at. What follows them is not known.
    pub cut: usize,
    /// The first property that does not hold, with the way to it.
    pub broken: Option<(&'static str, Vec<String>)>,
    /// How many states cannot get done any more, with the way to one of them.
    pub stuck: (usize, Vec<String>),
}

impl Found {
    /// Whether no property is broken, nothing gets stuck, and nothing was left out.
    pub fn all_hold(&self) -> bool {
        self.broken.is_none() && self.stuck.0 == 0 && self.cut == 0
    }
}

/// The world under one setting, as stateright sees it.
struct Checked {
    setting: Setting,
    edges: Mutex<Edges>,
}

/// Every edge between two states, by their hashes, and which states are done or cut.
#[derive(Default)]
struct Edges {
    pairs: Vec<(u64, u64)>,
    ends: HashSet<u64>,
    cut: usize,
}

fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

impl Model for Checked {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.setting)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(&self.setting, actions);
        let (done, cut) = (world.is_done(&self.setting), world.is_cut(&self.setting));
        if done || cut {
            let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
            edges.ends.insert(hash(world));
            edges.cut += usize::from(cut);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let next = world.after(&self.setting, action)?.in_order();
        let edge = (hash(world), hash(&next));
        self.edges.lock().unwrap_or_else(PoisonError::into_inner).pairs.push(edge);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        // A condition is a plain function, so each property has its own.
        vec![
            Property::always(PROPERTIES[0].0, |_, world: &World| !world.broken.has(PROPERTIES[0].0)),
            Property::always(PROPERTIES[1].0, |_, world: &World| !world.broken.has(PROPERTIES[1].0)),
            Property::always(PROPERTIES[2].0, |_, world: &World| !world.broken.has(PROPERTIES[2].0)),
            Property::always(PROPERTIES[3].0, |_, world: &World| !world.broken.has(PROPERTIES[3].0)),
            Property::always(PROPERTIES[4].0, |_, world: &World| !world.broken.has(PROPERTIES[4].0)),
            Property::always(PROPERTIES[5].0, |_, world: &World| !world.broken.has(PROPERTIES[5].0)),
            Property::always(PROPERTIES[6].0, |_, world: &World| !world.broken.has(PROPERTIES[6].0)),
            Property::always(PROPERTIES[7].0, |_, world: &World| !world.broken.has(PROPERTIES[7].0)),
            Property::always(PROPERTIES[8].0, |_, world: &World| !world.broken.has(PROPERTIES[8].0)),
            Property::always(PROPERTIES[9].0, |_, world: &World| !world.broken.has(PROPERTIES[9].0)),
        ]
    }
}

/// Explores a setting, until a property is broken or all states are known.
pub fn explore(setting: &Setting, threads: usize) -> Found {
    search(setting, threads, HasDiscoveries::Any, |_| true)
}

/// Explores a setting, until this property is broken or all states are known. What breaks another is not followed further.
pub fn look_for(property: &'static str, setting: &Setting, threads: usize) -> Found {
    search(setting, threads, HasDiscoveries::AnyOf([property].into()), |broken| broken == property)
}

/// Of what is broken, the preferred is told, and the one with the shortest way.
fn search(setting: &Setting, threads: usize, until: HasDiscoveries, prefers: impl Fn(&str) -> bool) -> Found {
    let began = Instant::now();
    let setting = &setting.clone().but(|setting| setting.memo = Arc::default());
    let model = Checked { setting: setting.clone(), edges: Mutex::default() };
    let checker = model.checker().threads(threads).finish_when(until).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let ways = checker.discoveries().into_iter().map(|(name, path)| (name, path.into_actions()));
    let broken = ways
        .min_by_key(|(name, way)| (!prefers(name), way.len()))
        .map(|(name, way)| (name, way.into_iter().map(|action| format!("{action:?}")).collect()));
    let edges = std::mem::take(&mut *checker.model().edges.lock().unwrap_or_else(PoisonError::into_inner));
    let cut = edges.cut;
    let stuck = if broken.is_some() { (0, Vec::new()) } else { stuck(setting, edges) };
    Found { states, depth, took: began.elapsed(), cut, broken, stuck }
}

/// The states from which none is reachable that is done, and the shortest way to one of them. A state at the edge of what
/// is looked into counts as done: what would follow is not known.
fn stuck(setting: &Setting, edges: Edges) -> (usize, Vec<String>) {
    let mut index: HashMap<u64, u32> = HashMap::new();
    let mut name = |hash: u64| {
        let next = u32::try_from(index.len()).expect("fewer states than that");
        *index.entry(hash).or_insert(next)
    };
    let pairs: Vec<(u32, u32)> = edges.pairs.iter().map(|(from, to)| (name(*to), name(*from))).collect();
    drop(edges.pairs);
    let ends: Vec<u32> = edges.ends.iter().map(|end| name(*end)).collect();
    let backward = Lists::new(index.len(), &pairs);
    let mut live = vec![false; index.len()];
    let mut queue: VecDeque<u32> = ends.into();
    for end in &queue {
        live[*end as usize] = true;
    }
    while let Some(state) = queue.pop_front() {
        for before in backward.of(state) {
            if !std::mem::replace(&mut live[*before as usize], true) {
                queue.push_back(*before);
            }
        }
    }
    let dead = live.iter().filter(|live| !**live).count();
    if dead == 0 {
        return (0, Vec::new());
    }
    let is_dead = |world: &World| index.get(&hash(world)).is_some_and(|state| !live[*state as usize]);
    (dead, way_to(setting, is_dead))
}

/// The shortest way from the begin to a state like this.
fn way_to(setting: &Setting, is_it: impl Fn(&World) -> bool) -> Vec<String> {
    let begin = World::new(setting);
    let mut known = HashSet::from([hash(&begin)]);
    let mut queue = VecDeque::from([(begin, Vec::new())]);
    let mut actions = Vec::new();
    while let Some((world, way)) = queue.pop_front() {
        if is_it(&world) {
            let mut told: Vec<String> = way.iter().map(|action: &Action| format!("{action:?}")).collect();
            told.push(world.tell());
            return told;
        }
        world.actions(setting, &mut actions);
        for action in actions.drain(..) {
            if let Some(next) = world.after(setting, action).map(World::in_order)
                && known.insert(hash(&next))
            {
                let mut way = way.clone();
                way.push(action);
                queue.push_back((next, way));
            }
        }
    }
    Vec::new()
}

/// For each state the states before it, in one piece of memory.
struct Lists {
    begins: Vec<u32>,
    entries: Vec<u32>,
}

impl Lists {
    fn new(count: usize, pairs: &[(u32, u32)]) -> Self {
        let mut begins = vec![0_u32; count + 1];
        for (from, _) in pairs {
            begins[*from as usize + 1] += 1;
        }
        for state in 0..count {
            begins[state + 1] += begins[state];
        }
        let mut next = begins.clone();
        let mut entries = vec![0; pairs.len()];
        for (from, to) in pairs {
            let place = &mut next[*from as usize];
            entries[*place as usize] = *to;
            *place += 1;
        }
        Self { begins, entries }
    }

    fn of(&self, state: u32) -> &[u32] {
        &self.entries[self.begins[state as usize] as usize..self.begins[state as usize + 1] as usize]
    }
}
