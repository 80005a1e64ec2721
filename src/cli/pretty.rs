//! Indents JSON without reading its values: numbers keep every digit and objects their order.

/// `json`, which must be valid and without white space between its tokens, with every element on a line of its own.
pub(super) fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut in_string = false;
    let mut escaped = false;
    let mut previous = '\0';
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            text.push(c);
        } else {
            match c {
                '}' | ']' => {
                    depth -= 1;
                    if !matches!(previous, '{' | '[') {
                        line(&mut text, depth);
                    }
                }
                _ if matches!(previous, '{' | '[' | ',') => line(&mut text, depth),
                _ => {}
            }
            text.push(c);
            match c {
                '{' | '[' => depth += 1,
                ':' => text.push(' '),
                '"' => in_string = true,
                _ => {}
            }
        }
        previous = c;
    }
    text
}

/// Starts a line.
fn line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_stands_on_a_line_of_its_own() {
        insta::assert_snapshot!(indented(r#"{"a":[1,{"b":null}],"c":{},"d":[],"e":[[]]}"#), @r#"
        {
          "a": [
            1,
            {
              "b": null
            }
          ],
          "c": {},
          "d": [],
          "e": [
            []
          ]
        }
        "#);
    }

    #[test]
    fn numbers_and_strings_stay_as_they_are() {
        let json = r#"{"n":9007199254740993.10,"s":"a, \"b\": {\\"}"#;
        assert_eq!(indented(json), "{\n  \"n\": 9007199254740993.10,\n  \"s\": \"a, \\\"b\\\": {\\\\\"\n}");
        assert_eq!(indented("\"[\""), "\"[\"");
        assert_eq!(indented(r#"["{","}"]"#), "[\n  \"{\",\n  \"}\"\n]");
    }
}
