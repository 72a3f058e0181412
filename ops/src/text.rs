//! Bytes and numbers as people and scripts read them: sizes, rates, base64, and the escapes that options accept.

use std::time::Duration;

/// `95.4 MiB`
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// `3 days`, `5 hours`, `40 seconds`: the largest unit of which there are two at least.
pub(crate) fn human_duration(duration: Duration) -> String {
    const UNITS: [(u64, &str, &str); 3] =
        [(86_400, "day", "days"), (3600, "hour", "hours"), (60, "minute", "minutes")];
    let seconds = duration.as_secs();
    let unit = UNITS.into_iter().find(|(unit, ..)| seconds >= 2 * unit);
    let (unit, one, many) = unit.unwrap_or((1, "second", "seconds"));
    let count = seconds / unit;
    format!("{} {}", human_count(count), plural(count, one, many))
}

/// `in 3 days`, `5 hours ago`.
pub(crate) fn moment(at_ms: i64, now_ms: i64) -> String {
    if at_ms.abs_diff(now_ms) < 2000 {
        return "just now".to_owned();
    }
    let apart = human_duration(Duration::from_millis(at_ms.abs_diff(now_ms)));
    if at_ms > now_ms { format!("in {apart}") } else { format!("{apart} ago") }
}

/// `1,234,567`
pub(crate) fn human_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What `amount` in `elapsed` makes in a second.
pub(crate) fn per_second(amount: u64, elapsed: Duration) -> u64 {
    (amount as f64 / elapsed.as_secs_f64().max(1e-9)) as u64
}

/// `records` or `record`
pub(crate) fn plural(count: u64, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// Standard base64 with padding (RFC 4648).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let symbol = DIGITS[(bits >> (18 - 6 * digit) & 63) as usize];
            text.push(if digit <= group.len() { char::from(symbol) } else { '=' });
        }
    }
    text
}

/// Replaces `\n`, `\t`, `\r`, `\0`, `\\` and `\xNN` by the bytes they stand for.
///
/// # Errors
/// Says which escape is unknown.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let mut chars = rest.chars();
        let byte = match chars.next() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let hex = rest.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                let byte = hex.ok_or_else(|| format!("\\x in {text:?} needs two hexadecimal digits"))?;
                chars.nth(1);
                byte
            }
            Some(other) => {
                return Err(format!(
                    "unknown escape \\{other} in {text:?}; there are \\n \\t \\r \\0 \\\\ \\xNN"
                ));
            }
            None => return Err(format!("{text:?} ends with a lone \\; write \\\\ for a backslash")),
        };
        bytes.push(byte);
        rest = chars.as_str();
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_equals_the_vectors_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn escapes_become_bytes_and_unknown_ones_are_named() {
        assert_eq!(unescape(r"a\tb\n\x00\xfF\\").unwrap(), b"a\tb\n\0\xff\\");
        assert_eq!(unescape("plain").unwrap(), b"plain");
        assert!(unescape(r"\q").unwrap_err().contains(r"unknown escape \q"));
        assert!(unescape("\\").unwrap_err().contains("lone"));
        assert!(unescape(r"\xä").unwrap_err().contains("two hexadecimal"));
    }

    #[test]
    fn moments_are_told_from_now() {
        assert_eq!(moment(10_000, 130_000), "2 minutes ago");
        assert_eq!(moment(3 * 86_400_000, 0), "in 3 days");
    }

    #[test]
    fn numbers_are_grouped_and_sizes_scaled() {
        assert_eq!(human_count(0), "0");
        assert_eq!(human_count(999), "999");
        assert_eq!(human_count(1_234_567), "1,234,567");
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_duration(Duration::from_millis(1999)), "1 second");
        assert_eq!(human_duration(Duration::from_secs(119)), "119 seconds");
        assert_eq!(human_duration(Duration::from_secs(7200)), "2 hours");
        assert_eq!(human_duration(Duration::from_secs(2 * 86_400 - 1)), "47 hours");
        assert_eq!(per_second(10, Duration::from_secs(2)), 5);
    }
}
