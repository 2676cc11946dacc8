//! Inputs that are nearly Dockerfiles: golden ones with pieces put in, taken out, and joined.
//!
//! The same seed gives the same inputs, on every machine.

use std::fs;
use std::path::Path;

/// Pieces that mean something somewhere.
pub const PIECES: [&str; 56] = [
    "\\\n",
    "`\n",
    "\n",
    "\r\n",
    "#",
    "# escape=`\n",
    "# check=skip=all\n",
    "<<EOF",
    "<<-",
    "EOF\n",
    "\nEOF\n",
    "\"",
    "'",
    "\\",
    "`",
    "$",
    "${",
    "}",
    ":-",
    ":+",
    ":?",
    "-",
    "+",
    "?",
    "##",
    "%",
    "%%",
    "//",
    "/",
    "*",
    "**",
    "!",
    "[\"",
    "\"]",
    "[",
    "]",
    ",",
    "=",
    "--",
    "--mount=",
    "--from=",
    "type=cache",
    "--chown=",
    "FROM ",
    "RUN ",
    "ONBUILD ",
    "COPY ",
    "HEALTHCHECK ",
    "ENV ",
    "ARG ",
    "EXPOSE ",
    "\0",
    "\u{feff}",
    "é",
    "\t",
    "\u{85}",
];

/// The golden Dockerfiles below a directory, in the order of their names.
pub fn seeds(golden: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(golden).expect("read the golden directory");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| fs::read(path.join("Dockerfile")).expect("a Dockerfile");
    paths.iter().map(read).collect()
}

/// Makes one input after the other.
pub struct Mutator<'a> {
    seeds: &'a [Vec<u8>],
    state: u64,
    input: Vec<u8>,
}

impl<'a> Mutator<'a> {
    /// Inputs of a seed, from golden files, of which there is at least one.
    pub fn new(seed: u64, seeds: &'a [Vec<u8>]) -> Mutator<'a> {
        Mutator {
            seeds,
            state: seed,
            input: Vec::new(),
        }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random() % limit.max(1) as u64) as usize
    }

    /// The next input.
    pub fn next_input(&mut self) -> &[u8] {
        let seed = self.below(self.seeds.len());
        self.input = self.seeds[seed].clone();
        for _ in 0..=self.below(6) {
            self.change();
        }
        &self.input
    }

    fn change(&mut self) {
        let start = self.below(self.input.len() + 1);
        let end = (start + self.below(12)).min(self.input.len());
        match self.below(8) {
            // A byte that may be anything.
            0 => {
                let byte = self.random() as u8;
                self.input.splice(start..end, [byte]);
            }
            // A part of it once more.
            1 => {
                let part = self.input[start..end].to_vec();
                self.input.splice(start..start, part);
            }
            // Lines of another file.
            2 => {
                let (other, skip, take) =
                    (self.below(self.seeds.len()), self.below(8), self.below(4));
                let lines = self.seeds[other].split_inclusive(|byte| *byte == b'\n');
                let part: Vec<u8> = lines.skip(skip).take(take).flatten().copied().collect();
                self.input.splice(start..start, part);
            }
            _ => {
                let piece = PIECES[self.below(PIECES.len())];
                self.input.splice(start..end, piece.bytes());
            }
        }
    }
}
