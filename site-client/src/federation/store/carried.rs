//! What a site carries from a round to its next, and the file it is kept in.

use protocol::Params;

/// What a site carries from a round to its next; nothing of it is ever sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Carried {
    /// Tensors the plan leaves at the site.
    pub local: Vec<f32>,
    /// The site's own DINO teacher.
    pub teacher: Option<Vec<f32>>,
    /// SCAFFOLD's control variate of the site.
    pub control: Option<Vec<f32>>,
    /// FedEMA: the site's own weights.
    pub previous: Option<Vec<f32>>,
    /// FedEMA: the site's scaler λ.
    pub lambda: Option<f32>,
    /// What lossy encoding has not delivered yet.
    pub residual: Option<Vec<f32>>,
}

impl Carried {
    /// As a safetensors file: one tensor for each vector that there is.
    pub(super) fn write(&self) -> Vec<u8> {
        let lambda = self.lambda.map(|lambda| vec![lambda]);
        let vectors = [
            ("control", self.control.as_ref()),
            ("lambda", lambda.as_ref()),
            ("local", Some(&self.local)),
            ("previous", self.previous.as_ref()),
            ("residual", self.residual.as_ref()),
            ("teacher", self.teacher.as_ref()),
        ];
        let tensors: Vec<_> = vectors
            .into_iter()
            .filter_map(|(name, values)| Some((name, values.filter(|values| !values.is_empty())?)))
            .map(|(name, values)| (name.to_owned(), vec![values.len() as u64], values.clone()))
            .collect();
        if tensors.is_empty() {
            return Vec::new();
        }
        Params::from_tensors(tensors)
            .expect("named vectors that are not empty make parameters")
            .to_safetensors()
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let params = Params::from_safetensors(bytes).map_err(|error| error.to_string())?;
        let vector = |name| params.tensor(name).map(<[f32]>::to_vec);
        Ok(Self {
            local: vector("local").unwrap_or_default(),
            teacher: vector("teacher"),
            control: vector("control"),
            previous: vector("previous"),
            lambda: vector("lambda").and_then(|values| values.first().copied()),
            residual: vector("residual"),
        })
    }
}
