//! What an image is in the store, and what that makes of its layers.
//!
//! An image is held in as many ways as there are; it is shown by the first of them in this order:
//!
//! | state | held because |
//! |---|---|
//! | tagged | `index.json` names it |
//! | member | a held index lists it, or a held signature is about it |
//! | pinned | somebody pinned it |
//! | referrer | its `subject` is an image that is held |
//! | in use | a live lease, or a container that is kept, holds it or an image made from it |
//! | intermediate | a tagged image descends from it by parent links |
//! | stage | a tagged image's build copied from it or mounted it, or from what descends from it |
//! | dangling | none of these |
//!
//! All ways are kept ([`Holds`]), not only the first: what may be removed is what *every* one of
//! its ways allows. Otherwise a new tag could turn a stage image into an intermediate one, and so
//! make a prune take more than before.
//!
//! A signature of an image that is held by its lineage alone, as an intermediate or a stage image,
//! is held as that image is, and goes with it: it must not hold the image that it is about.

use super::walk::{NodeSet, Roles};
use super::{ImageGraph, NodeId, RootKind, RootSet};
use crate::oci::document::Role;

/// What an image is in the store.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// `index.json` names it.
    Tagged,
    /// A held index lists it.
    Member,
    /// Somebody pinned it.
    Pinned,
    /// It signs or describes a held image.
    Referrer,
    /// A live lease or a kept container needs it.
    InUse,
    /// A tagged image descends from it.
    Intermediate,
    /// A tagged image's build used it.
    Stage,
    /// Nothing holds it.
    Dangling,
}

impl State {
    /// The states of what something holds, the strongest first.
    pub const HELD: [State; 7] = [
        State::Tagged,
        State::Member,
        State::Pinned,
        State::Referrer,
        State::InUse,
        State::Intermediate,
        State::Stage,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Tagged => "tagged",
            State::Member => "member",
            State::Pinned => "pinned",
            State::Referrer => "referrer",
            State::InUse => "in use",
            State::Intermediate => "intermediate",
            State::Stage => "stage",
            State::Dangling => "dangling",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

/// What a layer is in the store.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum LayerState {
    /// An image holds it that isn't dangling: the state is the best of those images'.
    Held(State),
    /// Only dangling images hold it.
    Dangling,
    /// No manifest holds it.
    Unreferenced,
}

impl LayerState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            LayerState::Held(state) => state.word(),
            LayerState::Dangling => "dangling",
            LayerState::Unreferenced => "unreferenced",
        }
    }
}

impl std::fmt::Display for LayerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

/// The ways in which something is held: a set of [`State`]s, empty for what is dangling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holds {
    bits: u8,
}

impl Holds {
    /// None: dangling.
    pub const NONE: Holds = Holds { bits: 0 };

    /// These ways, and one more.
    pub const fn with(self, state: State) -> Holds {
        match state {
            State::Dangling => self,
            _ => Holds {
                bits: self.bits | 1 << state as u8,
            },
        }
    }

    /// These ways and those.
    pub const fn and(self, more: Holds) -> Holds {
        Holds {
            bits: self.bits | more.bits,
        }
    }

    /// Whether this is one of them.
    pub const fn contains(self, state: State) -> bool {
        self.bits >> state as u8 & 1 == 1
    }

    /// The ways by descent: those in spite of which a prune may take an image.
    pub const LINEAGE: Holds = Holds::NONE.with(State::Intermediate).with(State::Stage);

    /// Whether all of them are among `others`.
    pub const fn within(self, others: Holds) -> bool {
        self.bits & !others.bits == 0
    }

    /// The first of them.
    pub fn state(self) -> State {
        State::HELD
            .into_iter()
            .find(|state| self.contains(*state))
            .unwrap_or(State::Dangling)
    }
}

/// What every node of a graph is, under one set of roots.
#[derive(Debug, Clone)]
pub struct Classes {
    holds: Vec<Holds>,
}

impl Classes {
    /// Classifies every document of `graph`.
    pub fn of(graph: &ImageGraph, roots: &RootSet) -> Classes {
        let mut classes = Classes {
            holds: vec![Holds::NONE; graph.len()],
        };
        classes.roots(graph, roots);
        classes.lineage(graph);
        classes.in_use(graph, roots);
        classes.referrers(graph);
        classes
    }

    /// The ways in which a document is held.
    pub fn holds(&self, node: NodeId) -> Holds {
        self.holds[node.index()]
    }

    /// What an image, or an index, is.
    pub fn state(&self, node: NodeId) -> State {
        self.holds(node).state()
    }

    /// What a layer is.
    pub fn layer(&self, graph: &ImageGraph, layer: NodeId) -> LayerState {
        let states = graph
            .holders(layer)
            .filter(|(_, role)| matches!(role, Role::Layer | Role::Other))
            .map(|(manifest, _)| self.state(manifest));
        match states.min() {
            None => LayerState::Unreferenced,
            Some(State::Dangling) => LayerState::Dangling,
            Some(state) => LayerState::Held(state),
        }
    }

    fn add(&mut self, node: NodeId, state: State) -> bool {
        self.add_all(node, Holds::NONE.with(state))
    }

    fn add_all(&mut self, node: NodeId, more: Holds) -> bool {
        let holds = &mut self.holds[node.index()];
        let new = !more.within(*holds);
        *holds = holds.and(more);
        new
    }

    /// Tags and pins, and the members of indexes that have one.
    fn roots(&mut self, graph: &ImageGraph, roots: &RootSet) {
        for root in &roots.roots {
            let state = match root.kind {
                RootKind::Tag { .. } => State::Tagged,
                RootKind::Pin => State::Pinned,
                RootKind::Lease { .. } | RootKind::Container { .. } | RootKind::Grace { .. } => {
                    continue;
                }
            };
            if self.add(root.node, state) {
                self.members(graph, root.node, Holds::NONE.with(State::Member));
            }
        }
    }

    /// What a held document points at as a document is held in these ways: the members of an index,
    /// what a signature signs.
    fn members(&mut self, graph: &ImageGraph, node: NodeId, holds: Holds) -> Vec<NodeId> {
        let mut pending = vec![node];
        let mut found = Vec::new();
        while let Some(node) = pending.pop() {
            for (target, role) in graph.links(node) {
                let follows = matches!(role, Role::Child | Role::Other | Role::Subject);
                if follows && self.add_all(target, holds) {
                    pending.push(target);
                    found.push(target);
                }
            }
        }
        found
    }

    /// Intermediates: ancestors of what is held so far. Stages: what any of these used, and the
    /// ancestors and stages of that.
    fn lineage(&mut self, graph: &ImageGraph) {
        let held: Vec<NodeId> = graph
            .images()
            .map(|image| image.node())
            .filter(|node| self.holds(*node) != Holds::NONE)
            .collect();
        let intermediates = made_from(graph, held.iter().copied(), false);
        let used = held
            .into_iter()
            .chain(intermediates.iter())
            .filter_map(|node| graph.image(node))
            .flat_map(|image| image.stages().collect::<Vec<_>>());
        let first: Vec<NodeId> = used.filter(|node| graph.image(*node).is_some()).collect();
        let stages = made_from(graph, first.iter().copied(), true);
        for node in intermediates.iter() {
            self.add(node, State::Intermediate);
        }
        for node in first.into_iter().chain(stages.iter()) {
            self.add(node, State::Stage);
        }
    }

    /// What live leases and kept containers hold, the members of that, and what it was made from:
    /// a build that runs shall find the steps that it has taken from the cache the next time too.
    fn in_use(&mut self, graph: &ImageGraph, roots: &RootSet) {
        let held: Vec<NodeId> = roots
            .roots
            .iter()
            .filter(|root| {
                matches!(
                    root.kind,
                    RootKind::Lease { .. } | RootKind::Container { .. }
                )
            })
            .map(|root| root.node)
            .collect();
        let documents = graph.closure(held, Roles::only(Role::Child));
        let made = made_from(graph, documents.iter(), true);
        for node in documents.iter().chain(made.iter()) {
            self.add(node, State::InUse);
        }
    }

    /// What signs or describes a held image, and what signs that: for its own sake only where the
    /// image is held by more than its lineage.
    fn referrers(&mut self, graph: &ImageGraph) {
        let mut pending: Vec<NodeId> = (0..graph.len())
            .map(NodeId::at)
            .filter(|node| self.holds(*node) != Holds::NONE)
            .collect();
        while let Some(node) = pending.pop() {
            let holds = self.holds(node);
            let (referrer, member) = match holds.within(Holds::LINEAGE) {
                true => (holds, holds),
                false => (
                    Holds::NONE.with(State::Referrer),
                    Holds::NONE.with(State::Member),
                ),
            };
            for (source, role) in graph.holders(node) {
                if role == Role::Subject && self.add_all(source, referrer) {
                    pending.push(source);
                    pending.extend(self.members(graph, source, member));
                }
            }
        }
    }
}

/// The images that `from` were made from: their ancestors and, where `stages`, what these and
/// they copied from. Without `from` itself, unless a link leads back to it.
fn made_from(graph: &ImageGraph, from: impl IntoIterator<Item = NodeId>, stages: bool) -> NodeSet {
    let mut found = NodeSet::of(graph);
    let mut pending: Vec<NodeId> = from.into_iter().collect();
    while let Some(node) = pending.pop() {
        let Some(image) = graph.image(node) else {
            continue;
        };
        let used = image.stages().filter(|_| stages);
        for source in image.parent().into_iter().chain(used) {
            if graph.image(source).is_some() && found.insert(source) {
                pending.push(source);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::sample::Letters;
    use super::*;

    fn states(text: &str, names: &str) -> String {
        let letters = Letters::new(text);
        let classes = Classes::of(&letters.graph, &letters.roots());
        let word = |name| classes.state(letters.node(name)).word();
        names.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_ancestor_of_a_tagged_image_is_intermediate_and_a_loose_one_dangling() {
        let text = "A->a B->a,b C->a,b,c D->a,d B^A C^B D^A +C";
        assert_eq!(
            states(text, "A B C D"),
            "intermediate intermediate tagged dangling"
        );
    }

    #[test]
    fn what_a_tagged_image_copied_from_is_a_stage_with_its_ancestors_and_stages() {
        let text = "A->a B->a,b C->c D->d E->e B^A D&B B&E C^D +C";
        assert_eq!(
            states(text, "A B C D E"),
            "stage stage tagged intermediate stage"
        );
    }

    #[test]
    fn a_stage_of_a_dangling_image_is_dangling() {
        assert_eq!(states("A->a B->b C->c B&A +C", "A B"), "dangling dangling");
    }

    #[test]
    fn members_of_a_tagged_index_and_signatures_of_them_are_held() {
        let text = "X->A,Y Y->B A->a B->b S=>B C->c +X";
        assert_eq!(
            states(text, "X Y A B S C"),
            "tagged member member member referrer dangling"
        );
    }

    #[test]
    fn a_signature_of_an_intermediate_image_does_not_hold_it_and_is_what_it_is() {
        let letters = Letters::new("A->a B->b C->c B^A C&A S=>A T=>C C^B +C");
        let classes = Classes::of(&letters.graph, &letters.roots());
        let holds = |name| classes.holds(letters.node(name));
        assert_eq!(holds("A"), Holds::LINEAGE);
        assert_eq!(holds("S"), Holds::LINEAGE);
        assert!(holds("T").contains(State::Referrer));
    }

    #[test]
    fn links_that_go_in_circles_end() {
        let text = "X->Y Y->X,A A->a B->b A^B B^A A&B B&A S=>T T=>S +X";
        assert_eq!(states(text, "A B S"), "member intermediate dangling");
    }

    #[test]
    fn a_layer_is_what_the_best_of_its_images_is() {
        let letters = Letters::new("A->a,s B->b,s C->c D->d D^C +A +D *B");
        let classes = Classes::of(&letters.graph, &letters.roots());
        let state = |name| classes.layer(&letters.graph, letters.node(name));
        assert_eq!(state("s"), LayerState::Held(State::Tagged));
        assert_eq!(state("b"), LayerState::Held(State::Pinned));
        assert_eq!(state("c"), LayerState::Held(State::Intermediate));
        let letters = Letters::new("A->a");
        let classes = Classes::of(&letters.graph, &letters.roots());
        assert_eq!(
            classes.layer(&letters.graph, letters.node("a")),
            LayerState::Dangling
        );
    }
}
