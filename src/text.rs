//! Texts from elsewhere, made to fit a status; sizes, as people read them.
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

/// So many bytes, as people read them.
#[must_use]
pub fn size(bytes: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let bytes = bytes.max(0);
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let unit = usize::try_from(bytes.ilog2() / 10 - 1).unwrap_or_default().min(UNITS.len() - 1);
    // In tenths of the unit: large numbers need none.
    let tenths = i128::from(bytes) * 10 / (1_i128 << (10 * (unit + 1)));
    if tenths < 100 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        format!("{} {}", tenths / 10, UNITS[unit])
    }
}

/// How far a download or an upload is that has come to so many bytes: `42 %, 430 MiB of 1.0 GiB`.
#[must_use]
pub fn how_far(bytes: i64, total: Option<i64>, percent: Option<i64>) -> String {
    match (percent, total) {
        (Some(percent), Some(total)) => format!("{} %, {} of {}", percent.clamp(0, 100), size(bytes), size(total)),
        _ => format!("{} so far", size(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        for (bytes, text) in [
            (-1, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10 << 10, "10 KiB"),
            ((1 << 20) - 1, "1023 KiB"),
            (1 << 20, "1.0 MiB"),
            (1_500_000, "1.4 MiB"),
            (430 << 20, "430 MiB"),
            (5 << 30, "5.0 GiB"),
            (i64::MAX, "8388607 TiB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn a_transfer_is_told_in_the_same_words_everywhere() {
        assert_eq!(how_far(430 << 20, Some(1 << 30), Some(41)), "41 %, 430 MiB of 1.0 GiB");
        assert_eq!(how_far(3 << 20, None, None), "3.0 MiB so far");
        assert_eq!(how_far(1, Some(2), None), "1 B so far", "a status that another hand wrote");
        assert_eq!(how_far(1, Some(2), Some(900)), "100 %, 1 B of 2 B", "likewise");
    }

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
