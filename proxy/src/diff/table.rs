//! A [`Diff`] for people. Pure.

use comfy_table::{Cell, Color};
use modes::{Difference, Sign};

use super::Diff;
use crate::output::{Look, finish, plain, table};

/// The text, with a newline at its end.
pub(super) fn render(diff: &Diff, Look { colour, .. }: Look) -> String {
    let mut text = String::new();
    if !diff.differences.is_empty() {
        text += &differences(&diff.differences, colour);
        text += "\n\n";
    }
    text += &summary(diff);
    for unused in &diff.unused {
        text += &format!("without use, and no difference: {}\n", plain(unused));
    }
    for note in &diff.notes {
        text += &format!("note: {}\n", plain(note));
    }
    text
}

fn differences(differences: &[Difference], colour: bool) -> String {
    let mut table = table(&["", "service port", "what"]);
    for Difference { sign, what, service } in differences {
        let tint = match sign {
            Sign::Missing => Color::Green,
            Sign::Unwanted => Color::Red,
        };
        let service = service.as_deref().unwrap_or_default();
        let (sign, what) = (Cell::new(sign).fg(tint), Cell::new(plain(what)).fg(tint));
        table.add_row([sign, Cell::new(plain(service)), what]);
    }
    finish(table, colour)
}

fn summary(diff: &Diff) -> String {
    let Diff { mode, differences, omitted, .. } = diff;
    if differences.is_empty() {
        return format!("no difference: the kernel holds what it should ({mode} mode)\n");
    }
    let missing = differences.iter().filter(|it| it.sign == Sign::Missing).count();
    let unwanted = differences.len() - missing;
    let more = match omitted {
        0 => String::new(),
        omitted => format!(", and {omitted} more differences"),
    };
    format!("{mode} mode: {missing} missing (+), {unwanted} that should not be there (-){more}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { wide: false, colour: false };

    fn difference(sign: Sign, service: Option<&str>, what: &str) -> Difference {
        Difference { sign, what: what.to_owned(), service: service.map(ToOwned::to_owned) }
    }

    fn diff() -> Diff {
        Diff {
            mode: "nftables".to_owned(),
            differences: vec![
                difference(Sign::Missing, Some("test/web:http"), "one"),
                difference(Sign::Unwanted, Some("test/web:http"), "two"),
                difference(Sign::Unwanted, None, "th\u{1b}[2Jree"),
            ],
            unused: vec!["chain ip pointsman pick-7".to_owned()],
            ..Diff::default()
        }
    }

    #[test]
    fn what_differs_is_by_service() {
        let expected = "   service port   what
+  test/web:http  one
-  test/web:http  two
-                 th\u{fffd}[2Jree

nftables mode: 1 missing (+), 2 that should not be there (-)
without use, and no difference: chain ip pointsman pick-7
";
        assert_eq!(render(&diff(), PLAIN), expected);
    }

    #[test]
    fn colour_is_only_for_terminals() {
        assert!(
            !render(&diff(), PLAIN).contains('\u{1b}')
                && render(&diff(), Look { colour: true, ..PLAIN }).contains('\u{1b}')
        );
    }

    #[test]
    fn nothing_is_said_in_a_line() {
        let equal = Diff { mode: "ipvs".to_owned(), ..Diff::default() };
        assert_eq!(render(&equal, PLAIN), "no difference: the kernel holds what it should (ipvs mode)\n");
    }

    #[test]
    fn what_is_told_can_be_read() {
        let told = serde_json::to_string(&diff()).unwrap();
        assert!(told.contains(r#""sign":"+""#), "{told}");
        assert_eq!(serde_json::from_str::<Diff>(&told).unwrap(), diff());
    }
}
