//! Dates in one form per column.

use jiff::civil::Date;

use super::super::error::{CohortError, Place};

/// What a cell with a date turned out to be.
pub(crate) enum Reading {
    Date(Date),
    /// Empty, or words: no date at all.
    None,
}

/// Reads the dates of one column. Without a given form they are ISO 8601 dates or date-times.
pub(crate) struct DateColumn {
    format: Option<String>,
    seen: Option<String>,
}

impl DateColumn {
    pub(crate) const fn new(format: Option<String>) -> Self {
        Self { format, seen: None }
    }

    /// Reads a cell.
    ///
    /// # Errors
    /// A date of another form than those before it: guessing which number is the month would label
    /// patients at random.
    pub(crate) fn read(
        &mut self,
        text: &str,
        place: impl Fn() -> Place,
    ) -> Result<Reading, CohortError> {
        let parsed = match &self.format {
            Some(format) => Date::strptime(format, text).ok(),
            None => iso(text),
        };
        let form = form(text);
        if let Some(date) = parsed {
            if self.seen.is_none() {
                self.seen = Some(form);
            }
            return Ok(Reading::Date(date));
        }
        let numbers = form
            .split(|c: char| c != '9')
            .filter(|part| !part.is_empty())
            .count();
        let other_form = self.seen.as_ref().is_none_or(|seen| *seen != form);
        if numbers == 3 && other_form && form.chars().all(|c| !c.is_alphabetic()) {
            let expected = self.seen.clone().or_else(|| self.format.clone());
            return Err(CohortError::MixedDates {
                place: place(),
                found: form,
                expected: expected.unwrap_or_else(|| "9999-99-99".to_owned()),
            });
        }
        Ok(Reading::None)
    }
}

/// An ISO 8601 date, or the local date of a date-time with or without an offset.
fn iso(text: &str) -> Option<Date> {
    let day = text.get(..10)?;
    let rest = &text[10..];
    if !(rest.is_empty() || rest.starts_with(['T', ' '])) {
        return None;
    }
    day.parse().ok()
}

/// The shape of a date with every digit as 9: it names no day.
fn form(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_digit() { '9' } else { c })
        .take(32)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(column: &mut DateColumn, text: &str) -> Result<Option<Date>, String> {
        match column.read(text, || Place::new(Path::new("d.csv"), 7, "date")) {
            Ok(Reading::Date(date)) => Ok(Some(date)),
            Ok(Reading::None) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn iso_dates_and_date_times_are_read() {
        let mut column = DateColumn::new(None);
        let day = jiff::civil::date(2024, 3, 5);
        for text in [
            "2024-03-05",
            "2024-03-05T23:30:00",
            "2024-03-05 08:00:00",
            "2024-03-05T23:30:00-05:00",
        ] {
            assert_eq!(read(&mut column, text), Ok(Some(day)), "{text}");
        }
    }

    #[test]
    fn words_and_impossible_days_are_no_dates() {
        let mut column = DateColumn::new(None);
        read(&mut column, "2024-03-05").unwrap();
        for text in ["", "unknown", "2024-02-30"] {
            assert_eq!(read(&mut column, text), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_second_form_in_a_column_is_refused_without_showing_the_day() {
        let mut column = DateColumn::new(None);
        read(&mut column, "2024-03-05").unwrap();
        let error = read(&mut column, "03/05/2024").unwrap_err();
        assert!(
            error.contains("d.csv row 7 column date") && error.contains("99/99/9999"),
            "{error}"
        );
        assert!(!error.contains("2024"), "{error}");
    }

    #[test]
    fn a_named_form_is_read_and_another_refused() {
        let mut column = DateColumn::new(Some("%m/%d/%Y".to_owned()));
        assert_eq!(
            read(&mut column, "03/05/2024"),
            Ok(Some(jiff::civil::date(2024, 3, 5)))
        );
        assert!(read(&mut column, "2024-03-05").is_err());
    }
}
