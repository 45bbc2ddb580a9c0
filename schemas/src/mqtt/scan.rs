//! Finds NaN and Infinity in text that is not JSON because of them. It takes one pass, in which each byte is examined at
//! most once per byte of such a word.

/// The words for values that are not finite, in lower case; each may have a sign before it.
const WORDS: [&[u8]; 3] = [b"nan", b"infinity", b"inf"];

/// Length of the longest word with its sign and the byte after it.
const WORD_BYTES_MAX: usize = 10;

/// Returns whether `text` is exactly such a word.
pub(super) fn names_no_number(text: &str) -> bool {
    word_length(text.as_bytes()).is_some_and(|length| length == text.len())
}

/// Returns whether such a word appears as a value, outside of strings: after a colon, a comma or an opening bracket. Adds
/// the number of bytes examined to `looked_bytes`.
pub(super) fn holds_bare_nan(text: &str, looked_bytes: &mut usize) -> bool {
    let bytes = text.as_bytes();
    let (mut in_string, mut escaped, mut before_value) = (false, false, false);
    for (at, &byte) in bytes.iter().enumerate() {
        *looked_bytes += 1;
        if in_string {
            (in_string, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            continue;
        }
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {}
            b':' | b',' | b'[' => before_value = true,
            b'"' => (in_string, before_value) = (true, false),
            _ => {
                if before_value {
                    *looked_bytes += WORD_BYTES_MAX;
                    if is_word_at(bytes, at) {
                        return true;
                    }
                }
                before_value = false;
            }
        }
    }
    false
}

/// Returns whether a word begins at `at` and ends where a value may end.
fn is_word_at(bytes: &[u8], at: usize) -> bool {
    let rest = &bytes[at..];
    word_length(rest).is_some_and(|length| {
        matches!(
            rest.get(length),
            None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
        )
    })
}

/// Returns the length of the word that `bytes` begin with, including its sign.
fn word_length(bytes: &[u8]) -> Option<usize> {
    let sign_length = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    let bare = &bytes[sign_length..];
    let begins = |word: &&[u8]| {
        bare.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let word = WORDS.iter().find(|word| begins(word))?;
    Some(sign_length + word.len())
}

#[cfg(test)]
mod tests {
    use super::{holds_bare_nan, names_no_number};

    #[track_caller]
    fn check(text: &str, expected: bool) {
        assert_eq!(holds_bare_nan(text, &mut 0), expected, "{text}");
    }

    #[test]
    fn a_bare_word_is_found_where_a_value_may_stand() {
        check(r#"{"a":NaN}"#, true);
        check(r#"{"a": -Infinity , "b":1}"#, true);
        check(r#"{"a":[1, nan]}"#, true);
        check("[+inf]", true);
        check(r#"{"a":inf"#, true);
        check(r#"{"a":"NaN"}"#, false);
        check(r#"{"a\":NaN":1x}"#, false);
        check(r#"{"a":nano}"#, false);
        check(r#"{"a":--inf}"#, false);
        check("nan", false);
        check(":", false);
    }

    #[test]
    fn a_text_names_no_number_as_a_whole() {
        for text in ["nan", "NaN", "-Infinity", "+inf", "INF"] {
            assert!(names_no_number(text), "{text}");
        }
        for text in ["", "-", "nan ", "infinite", "--nan", "1"] {
            assert!(!names_no_number(text), "{text}");
        }
    }
}
