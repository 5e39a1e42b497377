//! What a report is made of.

/// A section: figures, tables, or both.
pub(super) struct Section {
    pub(super) title: String,
    pub(super) figures: Vec<Figure>,
    pub(super) tables: Vec<Table>,
}

/// Panels under one caption.
pub(super) struct Figure {
    /// File name without ending; panels append their place.
    pub(super) id: String,
    pub(super) title: String,
    pub(super) caption: String,
    /// SVG documents.
    pub(super) panels: Vec<String>,
}

/// A table of text, written as CSV too.
pub(super) struct Table {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) caption: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Section {
    pub(super) fn of_figures(title: &str, figures: Vec<Figure>) -> Self {
        Self {
            title: title.to_owned(),
            figures,
            tables: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.figures.is_empty() && self.tables.is_empty()
    }
}

impl Figure {
    /// Draws each panel with an id of its own; none without panels.
    pub(super) fn new(
        id: &str,
        title: &str,
        caption: &str,
        panels: impl IntoIterator<Item = impl FnOnce(&str) -> String>,
    ) -> Option<Self> {
        let panels: Vec<String> = panels
            .into_iter()
            .enumerate()
            .map(|(place, draw)| draw(&format!("{id}-{}", place + 1)))
            .collect();
        (!panels.is_empty()).then(|| Self {
            id: id.to_owned(),
            title: title.to_owned(),
            caption: caption.to_owned(),
            panels,
        })
    }
}

impl Table {
    pub(super) fn new(id: &str, title: &str, caption: &str, columns: &[&str]) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            caption: caption.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows: Vec::new(),
        }
    }
}

/// Three decimals, or a dash.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// A value with its interval.
pub(super) fn with_interval(value: Option<f64>, interval: Option<[f64; 2]>) -> String {
    match (value, interval) {
        (Some(value), Some([low, high])) => format!("{value:.3} ({low:.3}–{high:.3})"),
        (value, _) => number(value),
    }
}

/// A p-value as journals print it.
pub(super) fn p_value(p: Option<f64>) -> String {
    match p {
        None => "–".to_owned(),
        Some(p) if p < 0.001 => "< 0.001".to_owned(),
        Some(p) => format!("{p:.3}"),
    }
}
