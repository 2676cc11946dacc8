//! The model: what there is, as sets of digests, and what a prune keeps of it.

use std::collections::{BTreeMap, BTreeSet};

use rstore::oci::Digest;

pub type Set = BTreeSet<Digest>;

/// A document, as the model knows it.
#[derive(Debug, Clone, Default)]
pub struct Document {
    /// Whether it is an image: only these have parents, and go by scope.
    pub image: bool,
    /// All that it points at: config, layers, members of an index, subject.
    pub content: Set,
    /// Of these, the documents that make what it points at a member: children and subject.
    pub members: Set,
    /// What a signature is about.
    pub subject: Option<Digest>,
    pub parent: Option<Digest>,
    /// What its step used, and what those used that were between it and its line, and have gone.
    pub stages: Set,
    /// The two as its text has them: what a new catalog reads.
    pub written: (Option<Digest>, Set),
}

/// The store, as it should be.
#[derive(Debug, Default)]
pub struct Model {
    pub documents: BTreeMap<Digest, Document>,
    /// Blobs that no document is: configs, layers.
    pub leaves: Set,
    pub tags: BTreeMap<String, Digest>,
    pub pins: Set,
    /// What live writers use.
    pub held: Vec<Digest>,
}

/// Everything that `step` gives, from `first` on, `first` itself not counted unless it is given.
fn spread(first: impl IntoIterator<Item = Digest>, step: impl Fn(&Digest) -> Set) -> Set {
    let mut found = Set::new();
    let mut pending: Vec<Digest> = first.into_iter().collect();
    while let Some(digest) = pending.pop() {
        for next in step(&digest) {
            if found.insert(next) {
                pending.push(next);
            }
        }
    }
    found
}

impl Model {
    /// Every blob that there is.
    pub fn blobs(&self) -> Set {
        self.documents.keys().chain(&self.leaves).copied().collect()
    }

    /// Forgets what is not among `left`. Images that stay inherit the stages of their lines, and
    /// know no more of those that went.
    pub fn retain(&mut self, left: &Set) {
        let orphans = self.documents.iter().filter(|(digest, document)| {
            let parent = document.parent.filter(|parent| self.is_image(parent));
            left.contains(*digest) && parent.is_some_and(|parent| !left.contains(&parent))
        });
        let orphans: Vec<Digest> = orphans.map(|(digest, _)| *digest).collect();
        for orphan in orphans {
            let line = spread([orphan], |digest| self.made_from(digest, false));
            let line = line.iter().filter_map(|digest| self.documents.get(digest));
            let stages: Set = line.flat_map(|document| document.stages.clone()).collect();
            let stages = stages.into_iter().filter(|stage| self.is_image(stage));
            let stages: Vec<Digest> = stages.collect();
            let document = self.documents.get_mut(&orphan).expect("a document");
            document.stages.extend(stages);
        }
        let gone: Set = self.documents.keys().copied().collect();
        let gone: Set = gone.difference(left).copied().collect();
        self.documents.retain(|digest, _| left.contains(digest));
        self.leaves.retain(|digest| left.contains(digest));
        for document in self.documents.values_mut() {
            document.parent = document.parent.filter(|parent| !gone.contains(parent));
            document.stages.retain(|stage| !gone.contains(stage));
        }
    }

    /// The catalog is lost: what documents say is all that is known.
    pub fn read_again(&mut self) {
        for document in self.documents.values_mut() {
            (document.parent, document.stages) = document.written.clone();
        }
    }

    fn document(&self, digest: &Digest) -> Option<&Document> {
        self.documents.get(digest)
    }

    fn is_image(&self, digest: &Digest) -> bool {
        self.document(digest).is_some_and(|document| document.image)
    }

    fn made_from(&self, digest: &Digest, stages: bool) -> Set {
        let Some(document) = self.document(digest).filter(|document| document.image) else {
            return Set::new();
        };
        let stages = document.stages.iter().filter(|_| stages);
        let sources = document.parent.iter().chain(stages);
        sources
            .filter(|digest| self.is_image(digest))
            .copied()
            .collect()
    }

    fn referrers(&self, digest: &Digest) -> Set {
        let about = |document: &Document| document.subject == Some(*digest);
        let found = self
            .documents
            .iter()
            .filter(|(_, document)| about(document));
        found.map(|(digest, _)| *digest).collect()
    }

    /// What `roots` need: content, and by subject backwards.
    pub fn needed(&self, roots: impl IntoIterator<Item = Digest>) -> Set {
        let roots: Set = roots.into_iter().collect();
        let mut all = spread(roots.iter().copied(), |digest| {
            let mut next = self.referrers(digest);
            next.extend(
                self.document(digest)
                    .map(|d| d.content.clone())
                    .unwrap_or_default(),
            );
            next
        });
        all.extend(roots);
        all
    }

    /// What must be there whatever is pruned.
    pub fn rooted(&self) -> Set {
        self.needed(self.roots())
    }

    fn roots(&self) -> Vec<Digest> {
        let tags = self.tags.values();
        tags.chain(&self.pins).chain(&self.held).copied().collect()
    }

    /// What a prune leaves.
    pub fn kept(&self, stages: bool, intermediates: bool) -> Set {
        let members = |digest: &Digest| {
            self.document(digest)
                .map(|d| d.members.clone())
                .unwrap_or_default()
        };
        // By a name, a pin, or an index or a signature that has one.
        let mut own: Set = self.tags.values().chain(&self.pins).copied().collect();
        own.extend(spread(own.clone(), members));
        // By descent.
        let ancestors = spread(own.clone(), |digest| self.made_from(digest, false));
        let used = own
            .union(&ancestors)
            .filter_map(|digest| self.document(digest));
        let used: Set = used.flat_map(|d| d.stages.iter().copied()).collect();
        let mut staged: Set = used.into_iter().filter(|d| self.is_image(d)).collect();
        staged.extend(spread(staged.clone(), |digest| {
            self.made_from(digest, true)
        }));
        // By use.
        let children = |digest: &Digest| match self.document(digest) {
            Some(document) if document.subject.is_none() => document.members.clone(),
            _ => Set::new(),
        };
        let mut in_use: Set = self.held.iter().copied().collect();
        in_use.extend(spread(in_use.clone(), children));
        in_use.extend(spread(in_use.clone(), |digest| {
            self.made_from(digest, true)
        }));
        // By what they are about, where that does not only stay for those that descend from it.
        let described = spread(own.union(&in_use).copied(), |digest| {
            let referrers = self.referrers(digest);
            let with = spread(referrers.clone(), members);
            referrers.union(&with).copied().collect()
        });
        let firmly = |digest: &Digest| {
            own.contains(digest) || described.contains(digest) || in_use.contains(digest)
        };
        let stays = |digest: &Digest| {
            firmly(digest)
                || (ancestors.contains(digest) && !intermediates)
                || (staged.contains(digest) && !stages)
        };
        let images = self.documents.iter().filter(|(_, document)| document.image);
        let mut stay: Set = images.map(|(digest, _)| *digest).filter(stays).collect();
        // An image that stays keeps what it was made from, but where that is asked for.
        if !intermediates {
            stay.extend(spread(stay.clone(), |digest| self.made_from(digest, false)));
        }
        self.needed(stay.into_iter().chain(self.roots()))
    }
}
