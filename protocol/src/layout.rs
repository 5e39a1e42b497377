//! Where each number of a model and of an update lies.
//!
//! Plan and schema together decide it, at both ends alike, so neither a model nor an update
//! carries a table of its own. Tensors are grouped by part, and within a part keep the schema's
//! order:
//!
//! | blob   | sections, in order |
//! |--------|--------------------|
//! | model  | weights, statistics, local, then teacher (DINO's `server-ema`), then control (SCAFFOLD); all f32 |
//! | update | change of weights (the plan's encoding), change of statistics (f32), change of control (SCAFFOLD, f32) |
//!
//! The local section of a model never changes: it is what sites start their own tensors from.

use std::ops::Range;

use crate::encoding::Encoding;
use crate::plan::{Config, Strategy};

/// What the numbers of a section are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Part {
    /// Trained and aggregated.
    Weights,
    /// Averaged, never optimized, for instance DINO's center.
    Statistics,
    /// Kept at the sites; here only as first values.
    Local,
    /// Average of the weights over rounds, which DINO's sites learn from.
    Teacher,
    /// SCAFFOLD's control variate of the weights.
    Control,
}

/// A run of numbers of one part and encoding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Section {
    /// What the numbers are.
    pub part: Part,
    /// How many there are.
    pub elements: u64,
    /// How they are written.
    pub encoding: Encoding,
    /// Byte at which they start.
    pub offset: u64,
}

impl Section {
    /// Bytes of `elements` of this section within the blob.
    ///
    /// # Panics
    /// If the range does not start at an encoding block.
    pub fn bytes(&self, elements: Range<u64>) -> Range<u64> {
        let range = self.encoding.byte_range(elements);
        self.offset + range.start..self.offset + range.end
    }

    /// The byte after the last.
    pub fn end(&self) -> u64 {
        self.offset + self.encoding.encoded_len(self.elements)
    }
}

/// One tensor's place within its part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slot {
    /// Name, as in the schema.
    pub name: String,
    /// What it is.
    pub part: Part,
    /// Elements, counted from the start of the part's section.
    pub elements: Range<u64>,
}

/// Where each number lies in the models and updates of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    slots: Vec<Slot>,
    model: Vec<Section>,
    update: Vec<Section>,
}

impl Layout {
    /// Lays out `tensors` (name and number of elements, in the schema's order) as the plan says.
    pub fn new<'a>(tensors: impl IntoIterator<Item = (&'a str, u64)>, config: &Config) -> Self {
        let mut counts = [0; 3];
        let slots: Vec<Slot> = tensors
            .into_iter()
            .map(|(name, elements)| {
                let part = if config.is_local(name) {
                    Part::Local
                } else if config.is_statistic(name) {
                    Part::Statistics
                } else {
                    Part::Weights
                };
                let count = &mut counts[part as usize];
                let start = *count;
                *count += elements;
                Slot {
                    name: name.to_owned(),
                    part,
                    elements: start..*count,
                }
            })
            .collect();
        let [weights, statistics, local] = counts;
        let mut model = vec![
            (Part::Weights, weights, Encoding::F32),
            (Part::Statistics, statistics, Encoding::F32),
            (Part::Local, local, Encoding::F32),
        ];
        let mut update = vec![
            (Part::Weights, weights, config.encoding.update),
            (Part::Statistics, statistics, Encoding::F32),
        ];
        if config.publishes_teacher() {
            model.push((Part::Teacher, weights, Encoding::F32));
        }
        if matches!(config.strategy, Strategy::Scaffold { .. }) {
            model.push((Part::Control, weights, Encoding::F32));
            update.push((Part::Control, weights, Encoding::F32));
        }
        Self {
            slots,
            model: sections(model),
            update: sections(update),
        }
    }

    /// Every tensor's place, in the schema's order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Sections of a model, in order.
    pub fn model(&self) -> &[Section] {
        &self.model
    }

    /// Sections of an update, in order.
    pub fn update(&self) -> &[Section] {
        &self.update
    }

    /// One section of a model.
    pub fn model_section(&self, part: Part) -> Option<Section> {
        self.model
            .iter()
            .copied()
            .find(|section| section.part == part)
    }

    /// One section of an update.
    pub fn update_section(&self, part: Part) -> Option<Section> {
        self.update
            .iter()
            .copied()
            .find(|section| section.part == part)
    }

    /// Elements of a part that a model or update holds.
    pub fn elements(&self, part: Part) -> u64 {
        self.model_section(part)
            .map_or(0, |section| section.elements)
    }

    /// Bytes of a model.
    pub fn model_bytes(&self) -> u64 {
        self.model.last().map_or(0, Section::end)
    }

    /// Bytes of an update.
    pub fn update_bytes(&self) -> u64 {
        self.update.last().map_or(0, Section::end)
    }
}

fn sections(parts: Vec<(Part, u64, Encoding)>) -> Vec<Section> {
    let mut offset = 0;
    parts
        .into_iter()
        .map(|(part, elements, encoding)| {
            let section = Section {
                part,
                elements,
                encoding,
                offset,
            };
            offset = section.end();
            section
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn config(tail: &str) -> Config {
        let text = format!(
            r#"
            name = "layout"
            objective = "dino"
            model = "vit"
            preset = "tiny"
            initial = "{}"
            rounds = 1
            local_parameters = ["*.norm"]
            statistics = ["center"]
            cohort = {{ rule = "full", sites = ["north"] }}
            local = {{ steps = 1, batch_size = 1 }}
            schedule = {{ learning_rate = {{ peak = 0.1 }} }}
            {tail}
            "#,
            "0".repeat(64)
        );
        Plan::parse(text.as_bytes()).unwrap().config().clone()
    }

    const TENSORS: [(&str, u64); 4] = [
        ("a.weight", 300),
        ("a.norm", 7),
        ("center", 64),
        ("z.weight", 20),
    ];

    #[test]
    fn tensors_are_grouped_by_role_in_the_schemas_order() {
        let config = config("dino = { teacher = \"local\" }\nencoding = { update = \"int8\" }");
        let layout = Layout::new(TENSORS, &config);
        let slots: Vec<_> = layout
            .slots()
            .iter()
            .map(|slot| (slot.part, slot.elements.clone()))
            .collect();
        assert_eq!(
            slots,
            [
                (Part::Weights, 0..300),
                (Part::Local, 0..7),
                (Part::Statistics, 0..64),
                (Part::Weights, 300..320)
            ]
        );
        assert_eq!(layout.model_bytes(), 4 * (320 + 64 + 7));
        // Two int8 blocks with a scale each, then exact floats.
        assert_eq!(layout.update_bytes(), 320 + 2 * 4 + 4 * 64);
        assert_eq!(layout.update_section(Part::Statistics).unwrap().offset, 328);
    }

    #[test]
    fn teacher_and_control_follow_the_model() {
        let config =
            config("dino = {}\nstrategy = { name = \"scaffold\", server_learning_rate = 1.0 }");
        let layout = Layout::new(TENSORS, &config);
        let parts: Vec<_> = layout.model().iter().map(|section| section.part).collect();
        assert_eq!(
            parts,
            [
                Part::Weights,
                Part::Statistics,
                Part::Local,
                Part::Teacher,
                Part::Control
            ]
        );
        assert_eq!(layout.model_bytes(), 4 * (320 * 3 + 64 + 7));
        assert_eq!(layout.update_bytes(), 4 * (320 * 2 + 64));
    }
}
