//! Texts from elsewhere, made to fit a status.
//!
//! Pure.

/// The longest log tail, in bytes.
const LONGEST_LOG: usize = 4096;
/// The most lines of a log tail.
const MOST_LINES: usize = 20;

/// At most `limit` bytes, cut between characters; a cut shows as `…`.
#[must_use]
pub fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// The last lines of a log: at most 20, and at most 4 KiB.
#[must_use]
pub fn tail(lines: &[String]) -> Vec<String> {
    let mut room = LONGEST_LOG;
    let mut kept: Vec<String> = Vec::new();
    for line in lines.iter().rev().take(MOST_LINES) {
        let line = cut(line, 512);
        if line.len() > room {
            break;
        }
        room -= line.len();
        kept.push(line);
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_texts_are_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcdef", 5), "ab…");
        assert_eq!(cut("éééé", 7), "éé…");
        assert_eq!(cut("abc", 0), "…");
        let lines = vec!["é".repeat(400); 30];
        let kept = tail(&lines);
        assert!(kept.len() <= 20 && kept.iter().map(String::len).sum::<usize>() <= 4096, "{}", kept.len());
    }
}
