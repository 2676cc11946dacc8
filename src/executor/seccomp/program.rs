//! A BPF program that answers by number: a binary search, not a chain.
//!
//! When a filter is installed, the kernel runs it for each system call number there is (twice on
//! x86_64, for i386 too), to learn which are always allowed. A chain of 300 comparisons makes that
//! a millisecond, for each step; a search tree makes it some microseconds.
//!
//! ```text
//!   load a value
//!   ≥ 200? ── yes ──► ≥ 300? …          inner: the middle of a sorted list of segments
//!      │ no
//!   ≥ 100? …                            leaf: the segment's code: an answer, or rules that
//!                                       look at an argument
//! ```
//!
//! BPF only jumps forward, by a byte's worth in a comparison, so subtrees are laid out one after
//! the other, and a jump that is too far for a byte goes by way of a `ja`.

use libc::sock_filter;

/// The offsets in `struct seccomp_data`; both our architectures are little-endian, so that the low
/// half of an argument comes first.
pub const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// The first argument's low half.
pub const FIRST_ARGUMENT: u32 = 16;

/// Code, and the program: a list of instructions.
pub type Code = Vec<sock_filter>;

/// Where a segment of values begins, and what is done for all of it.
pub type Segment = (u32, Code);

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Allows the call.
pub fn allow() -> Code {
    vec![instruction(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0)]
}

/// Fails the call with `errno`.
pub fn fail(errno: i32) -> Code {
    let data = errno as u32 & libc::SECCOMP_RET_DATA;
    vec![instruction(RETURN, libc::SECCOMP_RET_ERRNO | data, 0, 0)]
}

/// `code`, if the call is by `architecture`'s convention; else the process is killed.
pub fn only_for(architecture: u32, code: Code) -> Code {
    let mut program = vec![
        instruction(LOAD, ARCHITECTURE, 0, 0),
        instruction(IF_EQUAL, architecture, 1, 0),
        instruction(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
    ];
    program.extend(code);
    program
}

/// Loads the value at `offset`, and does `yes` if it has any of `bits`, else `no`.
pub fn if_any_bit(offset: u32, bits: u32, yes: Code, no: Code) -> Code {
    let mut code = vec![instruction(LOAD, offset, 0, 0)];
    code.extend(branch(IF_ANY_BIT, bits, yes, no));
    code
}

/// Loads the value at `offset`, and does what the segment says that it falls into. Segments are
/// sorted, and the first begins at 0.
pub fn search(offset: u32, segments: Vec<Segment>) -> Code {
    let mut code = vec![instruction(LOAD, offset, 0, 0)];
    code.extend(tree(segments));
    code
}

fn tree(mut segments: Vec<Segment>) -> Code {
    let upper = segments.split_off(segments.len().div_ceil(2));
    match upper.first() {
        None => segments.pop().map(|(_, code)| code).unwrap_or_default(),
        Some(&(middle, _)) => branch(IF_AT_LEAST, middle, tree(upper), tree(segments)),
    }
}

/// Compares what is loaded with `k`; `no` lies first.
fn branch(compare: u16, k: u32, yes: Code, no: Code) -> Code {
    let mut code = match u8::try_from(no.len()) {
        Ok(length) => vec![instruction(compare, k, length, 0)],
        Err(_) => {
            let length = no.len() as u32;
            vec![
                instruction(compare, k, 0, 1),
                instruction(JUMP, length, 0, 0),
            ]
        }
    };
    code.extend(no);
    code.extend(yes);
    code
}

/// The segments that `accept` exactly `values`, sorted, and for everything else do `refuse`.
pub fn segments(values: impl IntoIterator<Item = (u32, Code)>, refuse: &Code) -> Vec<Segment> {
    let mut segments = vec![(0, refuse.clone())];
    for (value, code) in values {
        match segments.last_mut() {
            // The segment in force begins here, or says the same already.
            Some((start, last)) if *start == value => *last = code,
            Some((_, last)) if same(last, &code) => {}
            _ => segments.push((value, code)),
        }
        if let Some(next) = value.checked_add(1) {
            segments.push((next, refuse.clone()));
        }
    }
    merge(segments)
}

/// Neighbours that do the same become one.
fn merge(segments: Vec<Segment>) -> Vec<Segment> {
    let mut merged: Vec<Segment> = Vec::with_capacity(segments.len());
    for segment in segments {
        match merged.last() {
            Some((_, last)) if same(last, &segment.1) => {}
            _ => merged.push(segment),
        }
    }
    merged
}

fn same(one: &Code, other: &Code) -> bool {
    let parts = |code: &Code| -> Vec<(u16, u8, u8, u32)> {
        code.iter()
            .map(|step| (step.code, step.jt, step.jf, step.k))
            .collect()
    };
    parts(one) == parts(other)
}

/// What the kernel would do with `code`, for tests.
#[cfg(test)]
pub fn interpret(code: &[sock_filter], number: u32, architecture: u32, argument: u64) -> u32 {
    let mut loaded = 0;
    let mut at = 0;
    loop {
        let step = &code[at];
        at += 1;
        let mut jump = |condition: bool| {
            at += usize::from(if condition { step.jt } else { step.jf });
        };
        match step.code {
            LOAD if step.k == NUMBER => loaded = number,
            LOAD if step.k == ARCHITECTURE => loaded = architecture,
            LOAD if step.k == FIRST_ARGUMENT => loaded = argument as u32,
            RETURN => return step.k,
            JUMP => at += step.k as usize,
            IF_EQUAL => jump(loaded == step.k),
            IF_AT_LEAST => jump(loaded >= step.k),
            IF_ANY_BIT => jump(loaded & step.k != 0),
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_exactly_its_values_however_many_there_are() {
        // Far more than a byte's jump.
        let values: Vec<u32> = (0..3000)
            .filter(|value| value % 3 != 1)
            .chain([u32::MAX])
            .collect();
        let listed = values.iter().map(|&value| (value, allow()));
        let code = search(NUMBER, segments(listed, &fail(libc::EPERM)));
        for value in (0..3010).chain([u32::MAX - 1, u32::MAX]) {
            let expected = if values.contains(&value) {
                allow()
            } else {
                fail(libc::EPERM)
            };
            assert_eq!(interpret(&code, value, 0, 0), expected[0].k, "{value}");
        }
    }
}
