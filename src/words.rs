//! Words that people mistype: how far apart two are.

/// How many slips make one word the other: a letter typed wrongly, left out or added, or two
/// neighbours swapped (Damerau's distance, each place being changed once at most).
pub fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before_last = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let (a, b) = (left[i - 1], right[j - 1]);
            row[j] = (last[j - 1] + usize::from(a != b))
                .min(last[j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && a == right[j - 2] && left[i - 2] == b {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn each_slip_counts_once() {
        for (left, right, slips) in [
            ("alpine", "alpine", 0),
            ("alpin", "alpine", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("RNU", "RUN", 1),
            ("RNU", "ENV", 2),
        ] {
            assert_eq!(distance(left, right), slips, "{left} {right}");
            assert_eq!(distance(right, left), slips, "{right} {left}");
        }
    }
}
