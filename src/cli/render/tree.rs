//! Trees of lines.
//!
//! ```text
//! base:latest
//! ├─ RUN make
//! │  └─ app:latest
//! └─ RUN test
//! ```

/// A node of a tree, the root as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its line.
    pub line: String,
    /// What hangs below it.
    pub children: Vec<Node>,
}

impl Node {
    /// A node without children.
    pub fn leaf(line: impl Into<String>) -> Node {
        Node {
            line: line.into(),
            children: Vec::new(),
        }
    }
}

/// What draws a branch, and what goes on below it.
pub fn branch(is_last: bool) -> (&'static str, &'static str) {
    match is_last {
        true => ("└─ ", "   "),
        false => ("├─ ", "│  "),
    }
}

/// The lines of trees, one tree after the other, each with what draws its branches.
///
/// A loop over a list of what is still to be drawn: a chain of ten thousand steps costs no stack.
pub fn lines(roots: &[Node]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut pending: Vec<(&Node, String, String)> = roots
        .iter()
        .rev()
        .map(|root| (root, String::new(), String::new()))
        .collect();
    while let Some((node, prefix, below)) = pending.pop() {
        lines.push(format!("{prefix}{}", node.line));
        for (place, child) in node.children.iter().enumerate().rev() {
            let (branch, trunk) = branch(place + 1 == node.children.len());
            pending.push((child, format!("{below}{branch}"), format!("{below}{trunk}")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_drawn() {
        let tree = Node {
            line: "a".into(),
            children: vec![
                Node {
                    line: "b".into(),
                    children: vec![Node::leaf("c")],
                },
                Node::leaf("d"),
            ],
        };
        assert_eq!(lines(&[tree]), ["a", "├─ b", "│  └─ c", "└─ d"]);
    }
}
