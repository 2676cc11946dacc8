//! `rstore graph`: what descends from what, and what holds what.
//!
//! Without a direction it draws a forest: images below the image that their step started from,
//! with a note of the images that the step copied from, and the members of an index below it. With one it draws trees that begin at the
//! images that were named: `--up` to whoever needs them, `--down` to what they need.

use std::collections::HashSet;
use std::io::Write;

use clap::ValueEnum;

use super::view::{self, View};
use crate::catalog::BlobKind;
use crate::cli::render::picture::{Edge, EdgeKind, Picture, Vertex};
use crate::cli::render::tree::{self, Node};
use crate::cli::render::{Look, fold, json, size, svg, text};
use crate::cli::{Context, Result, exit};
use crate::graph::{Image, NodeId};
use crate::oci::document::Role;

/// Show what descends from what
///
/// Shows how images and layers descend from one another: all of them, or the relatives of those
/// that are named.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rstore graph
  rstore graph --up alpine
  rstore graph --down --layers app
  rstore graph --sizes --created-by app
  rstore graph --format dot app | dot -Tsvg > app.svg
  rstore graph --format html > graph.html")]
pub struct Args {
    /// Names, IDs or digests of images or layers
    #[arg(value_name = "REF")]
    pub references: Vec<String>,
    /// How it is drawn
    #[arg(long, value_name = "FORMAT", default_value = "tree")]
    pub format: Form,
    /// Images only [default]
    #[arg(long, conflicts_with = "layers")]
    pub images: bool,
    /// Layers too
    #[arg(long)]
    pub layers: bool,
    /// Who needs what is named
    #[arg(long, conflicts_with = "down", requires = "references")]
    pub up: bool,
    /// What it needs
    #[arg(long, requires = "references")]
    pub down: bool,
    /// Print instructions in full: in trees, dot and mermaid
    #[arg(long)]
    pub created_by: bool,
    /// Print also how many bytes each image adds to the one it was made from: in trees
    #[arg(long)]
    pub sizes: bool,
    /// Print digests and instructions in full, and long lines of steps unfolded
    #[arg(long)]
    pub no_trunc: bool,
    /// Print sizes in bytes
    #[arg(long)]
    pub bytes: bool,
}

/// How a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Lines of text
    Tree,
    /// For graphviz
    Dot,
    /// For Markdown pages
    Mermaid,
    /// A picture
    Svg,
    /// A page that finds things in the picture
    Html,
    /// For programs
    Json,
}

/// Runs the command.
pub fn run(arguments: &Args, context: &mut Context) -> Result {
    arguments.check()?;
    let view = View::open(context)?;
    let look = Look {
        full: arguments.no_trunc,
        exact: arguments.bytes,
        now: context.now,
        width: context.terminal.width,
    };
    let mut named = Vec::new();
    for reference in &arguments.references {
        named.push(view.graph.resolve_any(reference)?.node);
    }
    let drawing = Drawing {
        view: &view,
        look: &look,
        layers: arguments.layers,
        colour: context.terminal.stdout && context.terminal.color,
        added: arguments.sizes,
        whole_steps: arguments.created_by || arguments.no_trunc,
    };
    let direction = match (arguments.up, arguments.down) {
        (true, _) => Some(Direction::Up),
        (_, true) => Some(Direction::Down),
        _ => None,
    };
    let out = &mut context.out;
    match (arguments.format, direction) {
        (Form::Tree, Some(direction)) => {
            let trees: Vec<Node> = named.iter().map(|n| drawing.tree(*n, direction)).collect();
            for line in tree::lines(&trees) {
                writeln!(out, "{line}")?;
            }
        }
        (Form::Tree, None) => drawing.forest(&drawing.relatives(&named, None), out)?,
        (Form::Dot, direction) => {
            let shown = drawing.relatives(&named, direction);
            write!(out, "{}", drawing.picture(&shown).dot(drawing.whole_steps))?;
        }
        (Form::Mermaid, direction) => {
            let shown = drawing.relatives(&named, direction);
            write!(
                out,
                "{}",
                drawing.picture(&shown).mermaid(drawing.whole_steps)
            )?;
        }
        (Form::Svg, direction) => {
            let shown = drawing.relatives(&named, direction);
            write!(out, "{}", svg::svg(&drawing.drawn(&shown)))?;
        }
        (Form::Html, direction) => {
            let shown = drawing.relatives(&named, direction);
            let title = match arguments.references.as_slice() {
                [] => "rstore".to_owned(),
                references => references.join(", "),
            };
            write!(out, "{}", svg::html(&drawing.drawn(&shown), &title))?;
        }
        (Form::Json, direction) => {
            let shown = drawing.relatives(&named, direction);
            json::document(out, &drawing.picture(&shown).document()?)?;
        }
    }
    Ok(())
}

impl Args {
    /// Refuses what would be accepted and do nothing.
    fn check(&self) -> Result {
        let is_tree = self.format == Form::Tree;
        if self.sizes && !is_tree {
            return Err(exit::usage_error(
                "--sizes is for trees; the other forms have the sizes of all they show",
            ));
        }
        if self.created_by && matches!(self.format, Form::Svg | Form::Html) {
            return Err(exit::usage_error(
                "--created-by is for tree, dot and mermaid; json has instructions in full",
            ));
        }
        Ok(())
    }
}

/// Draws a forest of the given images, with the indexes that hold them: what `images --tree` shows.
pub fn write_forest(
    view: &View,
    mut nodes: Vec<NodeId>,
    look: &Look,
    context: &mut Context,
) -> Result {
    let drawing = Drawing {
        view,
        look,
        layers: false,
        colour: context.terminal.stdout && context.terminal.color,
        added: false,
        whole_steps: look.full,
    };
    let set: HashSet<NodeId> = nodes.iter().copied().collect();
    let indexes = drawing.indexes();
    nodes.extend(
        indexes.filter(|index| drawing.members(*index).any(|member| set.contains(&member))),
    );
    drawing.forest(&nodes, &mut context.out)
}

/// A picture of the given images.
pub fn picture_of(view: &View, nodes: &[NodeId], look: &Look) -> Picture {
    let drawing = Drawing {
        view,
        look,
        layers: false,
        colour: false,
        added: false,
        whole_steps: look.full,
    };
    drawing.picture(nodes)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// A line of more unnamed steps than this is folded to its first and its last.
const LONGEST_LINE: usize = 6;

/// What a folded line of steps leaves out.
struct Fold {
    steps: usize,
    last: NodeId,
    /// Bytes that the line has added, from its first step to its last.
    added: u64,
}

struct Drawing<'a> {
    view: &'a View,
    look: &'a Look,
    layers: bool,
    /// Whether the terminal shows colours, and they are wanted.
    colour: bool,
    /// Whether lines say what an image adds to the one it was made from.
    added: bool,
    /// Whether instructions are shown in full.
    whole_steps: bool,
}

/// Colours, as SGR parameters (ECMA-48).
#[derive(Clone, Copy)]
struct Colour(&'static str);

const NAME: Colour = Colour("1;32");
const FAINT: Colour = Colour("2");

/// The colour of a state: what stays is plain, what a prune takes stands out.
fn colour_of(state: &str) -> Colour {
    match state {
        "tagged" | "member" | "pinned" => Colour("32"),
        "dangling" | "unreferenced" => Colour("33"),
        "stage" => Colour("36"),
        "in use" => Colour("35"),
        _ => FAINT,
    }
}

impl Drawing<'_> {
    fn image(&self, node: NodeId) -> Option<Image<'_>> {
        self.view.graph.image(node)
    }

    /// What a picture of the named nodes shows: all images where none is named.
    fn relatives(&self, named: &[NodeId], direction: Option<Direction>) -> Vec<NodeId> {
        let graph = &self.view.graph;
        if named.is_empty() {
            let images = graph.images().map(|image| image.node());
            let images = images.chain(self.indexes());
            let layers = graph.layers().map(|layer| layer.node());
            return images.chain(layers.filter(|_| self.layers)).collect();
        }
        let directions = match direction {
            Some(one) => vec![one],
            None => vec![Direction::Up, Direction::Down],
        };
        let mut shown = HashSet::new();
        for direction in directions {
            let mut seen: HashSet<NodeId> = named.iter().copied().collect();
            let mut pending: Vec<NodeId> = named.to_vec();
            while let Some(node) = pending.pop() {
                shown.insert(node);
                let next = self.next(node, direction).into_iter().map(|(_, node)| node);
                pending.extend(next.filter(|node| seen.insert(*node)));
            }
        }
        let mut shown: Vec<NodeId> = shown.into_iter().collect();
        shown.sort_unstable();
        shown
    }

    /// Every index.
    fn indexes(&self) -> impl Iterator<Item = NodeId> + '_ {
        let nodes = self.view.graph.nodes();
        let indexes =
            nodes.filter(|node| node.kind == BlobKind::Index && node.present && !node.condemned);
        indexes.map(|node| node.node)
    }

    /// The images that an index lists and that are here.
    fn members(&self, index: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let links = self.view.graph.links(index);
        links
            .filter(|(node, role)| *role == Role::Child && self.view.graph.node(*node).present)
            .map(|(node, _)| node)
    }

    /// Who needs a node, or what it needs, and as what.
    fn next(&self, node: NodeId, direction: Direction) -> Vec<(EdgeKind, NodeId)> {
        match direction {
            Direction::Up => self.users(node),
            Direction::Down => self.needs(node),
        }
    }

    fn users(&self, node: NodeId) -> Vec<(EdgeKind, NodeId)> {
        let graph = &self.view.graph;
        let mut found: Vec<(EdgeKind, NodeId)> = graph
            .holders(node)
            .filter_map(|(holder, role)| Some((EdgeKind::of(role)?, holder)))
            .collect();
        if let Some(image) = self.image(node) {
            let children = image.children().map(|c| (EdgeKind::Parent, c.node()));
            let stages = image.used_by().map(|user| (EdgeKind::Stage, user.node()));
            found.extend(children.chain(stages));
        }
        found
    }

    fn needs(&self, node: NodeId) -> Vec<(EdgeKind, NodeId)> {
        let graph = &self.view.graph;
        let Some(image) = self.image(node) else {
            let links = graph.links(node);
            return links
                .filter(|(_, role)| *role == Role::Child)
                .map(|(child, _)| (EdgeKind::Member, child))
                .collect();
        };
        let parent = image
            .parent_image()
            .map(|parent| (EdgeKind::Parent, parent.node()));
        let stages = image.stages().filter(|stage| graph.image(*stage).is_some());
        let layers = image.layers().filter(|_| self.layers);
        parent
            .into_iter()
            .chain(stages.map(|stage| (EdgeKind::Stage, stage)))
            .chain(layers.map(|layer| (EdgeKind::Layer, layer)))
            .collect()
    }

    /// A tree from one node on. What was drawn is not drawn twice below, and so it ends.
    fn tree(&self, root: NodeId, direction: Direction) -> Node {
        let mut seen = HashSet::from([root]);
        // Depth first with a list of open nodes: a chain of ten thousand steps costs no stack.
        struct Open {
            node: Node,
            rest: std::vec::IntoIter<(EdgeKind, NodeId)>,
        }
        let open = |line: String, node: NodeId| Open {
            node: Node::leaf(line),
            rest: self.next(node, direction).into_iter(),
        };
        let mut stack = vec![open(self.line(root), root)];
        loop {
            let top = stack.last_mut().expect("the root is closed last");
            if let Some((kind, node)) = top.rest.next() {
                let line = format!(
                    "{} {}",
                    kind.word(direction == Direction::Up),
                    self.line(node)
                );
                if seen.insert(node) {
                    stack.push(open(line, node));
                } else {
                    top.node
                        .children
                        .push(Node::leaf(format!("{line} (above)")));
                }
                continue;
            }
            let done = stack.pop().expect("it was looked at").node;
            match stack.last_mut() {
                Some(parent) => parent.node.children.push(done),
                None => return done,
            }
        }
    }

    /// Images below their parents, as far as both are shown.
    fn forest(&self, shown: &[NodeId], out: &mut dyn Write) -> Result {
        let mut images: Vec<NodeId> = shown
            .iter()
            .copied()
            .filter(|node| self.image(*node).is_some())
            .collect();
        images.sort_unstable();
        images.dedup();
        let set: HashSet<NodeId> = images.iter().copied().collect();
        let is_index = |node: &&NodeId| self.view.graph.node(**node).kind == BlobKind::Index;
        let indexes: Vec<NodeId> = shown.iter().filter(is_index).copied().collect();
        let members: HashSet<NodeId> = indexes
            .iter()
            .flat_map(|index| self.members(*index))
            .collect();
        for root in images
            .iter()
            .filter(|node| !self.has_parent_in(**node, &set) && !members.contains(*node))
        {
            self.write_descendants(*root, (String::new(), String::new()), &set, out)?;
        }
        self.write_indexes(&indexes, &set, out)?;
        let others = shown
            .iter()
            .filter(|node| self.image(**node).is_none() && !is_index(node));
        for node in others {
            if !self.layers
                || self.view.classes.layer(&self.view.graph, *node).word() == "unreferenced"
            {
                writeln!(out, "{}", self.line(*node))?;
            }
        }
        Ok(())
    }

    /// Indexes, and below each what it lists: with all that descends from it, unless that hangs
    /// below its parent or another index already.
    fn write_indexes(
        &self,
        indexes: &[NodeId],
        set: &HashSet<NodeId>,
        out: &mut dyn Write,
    ) -> Result {
        let mut drawn = HashSet::new();
        // An index within an index is drawn there.
        let inner: HashSet<NodeId> = indexes
            .iter()
            .flat_map(|index| self.members(*index))
            .collect();
        let roots = indexes.iter().filter(|index| !inner.contains(*index)).rev();
        let mut pending: Vec<(NodeId, String, String)> = roots
            .map(|index| (*index, String::new(), String::new()))
            .collect();
        while let Some((node, prefix, below)) = pending.pop() {
            let is_member = !prefix.is_empty();
            if is_member && self.image(node).is_some() {
                let hangs = self.has_parent_in(node, set) || !set.contains(&node);
                if hangs || !drawn.insert(node) {
                    writeln!(out, "{prefix}{} (above)", self.line(node))?;
                } else {
                    self.write_descendants(node, (prefix, below), set, out)?;
                }
                continue;
            }
            writeln!(out, "{prefix}{}", self.line(node))?;
            if !drawn.insert(node) {
                continue;
            }
            let members: Vec<NodeId> = self.members(node).collect();
            for (place, member) in members.iter().enumerate().rev() {
                let (branch, trunk) = tree::branch(place + 1 == members.len());
                pending.push((
                    *member,
                    format!("{below}{branch}"),
                    format!("{below}{trunk}"),
                ));
            }
        }
        Ok(())
    }

    fn has_parent_in(&self, node: NodeId, set: &HashSet<NodeId>) -> bool {
        let parent = self.image(node).and_then(|image| image.parent());
        parent.is_some_and(|parent| set.contains(&parent))
    }

    /// One tree of a forest, written as it is walked: large stores need no second copy of it.
    fn write_descendants(
        &self,
        root: NodeId,
        (prefix, below): (String, String),
        set: &HashSet<NodeId>,
        out: &mut dyn Write,
    ) -> Result {
        let mut pending = vec![(root, prefix, below)];
        while let Some((mut node, mut prefix, mut below)) = pending.pop() {
            if let Some(fold) = self.fold(node, set) {
                writeln!(out, "{prefix}{}", self.line_with_stages(node))?;
                let added = size::shown(fold.added, self.look.exact);
                writeln!(out, "{below}└─ ⋮ {} more steps, {added}", fold.steps)?;
                below.push_str("   ");
                prefix = format!("{below}└─ ");
                below.push_str("   ");
                node = fold.last;
            }
            writeln!(out, "{prefix}{}", self.line_with_stages(node))?;
            let Some(image) = self.image(node) else {
                continue;
            };
            let children = self.children(image, set);
            if self.layers {
                let trunk = if children.is_empty() { "   " } else { "│  " };
                for layer in self.own_layers(image) {
                    writeln!(out, "{below}{trunk}layer {}", self.line(layer))?;
                }
            }
            for (place, child) in children.iter().enumerate().rev() {
                let (branch, trunk) = tree::branch(place + 1 == children.len());
                pending.push((
                    *child,
                    format!("{below}{branch}"),
                    format!("{below}{trunk}"),
                ));
            }
        }
        Ok(())
    }

    fn children(&self, image: Image, set: &HashSet<NodeId>) -> Vec<NodeId> {
        image
            .children()
            .map(|child| child.node())
            .filter(|child| set.contains(child))
            .collect()
    }

    /// The line of steps that begins with `first`, where it is one that is folded: of nothing but
    /// images that have no name and one child each.
    fn fold(&self, first: NodeId, set: &HashSet<NodeId>) -> Option<Fold> {
        if self.layers || self.look.full {
            return None;
        }
        let start = self.image(first)?;
        let mut image = start;
        let mut length = 0;
        while image.names().next().is_none() {
            length += 1;
            match self.children(image, set).as_slice() {
                [only] if self.image(*only)?.names().next().is_none() => {
                    image = self.image(*only)?;
                }
                _ => break,
            }
        }
        (length > LONGEST_LINE).then(|| Fold {
            steps: length - 2,
            last: image.node(),
            added: image.size().saturating_sub(start.size()),
        })
    }

    /// The layers of an image that its parent doesn't have.
    fn own_layers(&self, image: Image) -> Vec<NodeId> {
        let parents = image
            .parent_image()
            .map_or(0, |parent| parent.layers().count());
        image.layers().skip(parents).collect()
    }

    fn line_with_stages(&self, node: NodeId) -> String {
        let line = self.line(node);
        let Some(image) = self.image(node) else {
            return line;
        };
        let stages: Vec<String> = image
            .stages()
            .map(|stage| match self.image(stage) {
                Some(image) => self.look.digest(&image.id()),
                None => self.look.digest(&self.view.graph.node(stage).digest),
            })
            .collect();
        if stages.is_empty() {
            return line;
        }
        format!("{line}  ← {}", stages.join(", "))
    }

    /// One node in a line: ID, state, size, names, instruction.
    fn line(&self, node: NodeId) -> String {
        let graph = &self.view.graph;
        let blob = graph.node(node);
        let image = self.image(node);
        let layer = graph.layer(node);
        let (id, bytes) = match image {
            Some(image) => (image.id(), image.size()),
            None => (blob.digest, blob.size),
        };
        let state = match (blob.kind, image) {
            (BlobKind::Index, _) | (_, Some(_)) => self.view.classes.state(node).word(),
            _ => self.view.classes.layer(graph, node).word(),
        };
        let kind = match blob.kind {
            BlobKind::Index => " index",
            _ => "",
        };
        let names: Vec<&str> = graph.names(node).collect();
        let names = match names.is_empty() {
            true => String::new(),
            false => format!(" {}", self.paint(NAME, &text::clean(&names.join(", ")))),
        };
        let step = match image {
            Some(image) => image.step(),
            None => layer.and_then(|layer| layer.created_by()),
        };
        format!(
            "{}{kind} {} {}{}{names}{}",
            self.look.digest(&id),
            self.paint(colour_of(state), &format!("[{state}]")),
            size::shown(bytes, self.look.exact),
            self.added(image),
            self.step(step)
        )
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{}m{text}\x1b[0m", colour.0),
            false => text.to_owned(),
        }
    }

    /// What an image adds to the one it was made from; one that was made from nothing adds all.
    fn added(&self, image: Option<Image>) -> String {
        let Some(image) = image.filter(|_| self.added) else {
            return String::new();
        };
        let before = image.parent_image().map_or(0, |parent| parent.size());
        let added = size::shown(image.size().saturating_sub(before), self.look.exact);
        format!(" (+{added})")
    }

    fn step(&self, step: Option<&str>) -> String {
        match step {
            Some(step) => {
                let step = text::clean(view::step_text(step));
                let step = match self.whole_steps {
                    true => step,
                    false => text::shorten(&step, 50),
                };
                format!("  {}", self.paint(FAINT, &step))
            }
            None => String::new(),
        }
    }

    /// The shown nodes, and the links between them.
    fn picture(&self, shown: &[NodeId]) -> Picture {
        let graph = &self.view.graph;
        let set: HashSet<NodeId> = shown.iter().copied().collect();
        let vertices = shown.iter().map(|node| self.vertex(*node)).collect();
        let mut edges = Vec::new();
        for node in shown {
            for (kind, needed) in self.needs(*node) {
                if set.contains(&needed) {
                    edges.push(Edge {
                        from: graph.node(*node).digest,
                        to: graph.node(needed).digest,
                        kind,
                    });
                }
            }
        }
        Picture { vertices, edges }
    }

    /// The same for people: long lines of steps folded, unless all of them are asked for.
    fn drawn(&self, shown: &[NodeId]) -> Picture {
        let picture = self.picture(shown);
        match self.layers || self.look.full {
            true => picture,
            false => fold::folded(picture, LONGEST_LINE),
        }
    }

    fn vertex(&self, node: NodeId) -> Vertex {
        let graph = &self.view.graph;
        let blob = graph.node(node);
        let image = self.image(node);
        let layer = graph.layer(node);
        Vertex {
            digest: blob.digest,
            kind: blob.kind,
            id: image.map(|image| image.id()),
            names: graph.names(node).map(str::to_owned).collect(),
            state: match layer {
                Some(_) => self.view.classes.layer(graph, node).word(),
                None => self.view.classes.state(node).word(),
            },
            size: image.map_or(blob.size, |image| image.size()),
            step: image
                .and_then(|image| image.step())
                .or(layer.and_then(|layer| layer.created_by()))
                .map(str::to_owned),
            folded: Vec::new(),
        }
    }
}
