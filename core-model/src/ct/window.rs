/// A linear map of Hounsfield units to [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// HU that maps to 0; everything below does too.
    pub low_hu: i32,
    /// HU that maps to 1; everything above does too.
    pub high_hu: i32,
}

impl Window {
    /// From center and width, as radiologists name windows; half the width is rounded down.
    #[must_use]
    pub const fn new(center_hu: i32, width_hu: i32) -> Self {
        Self {
            low_hu: center_hu - width_hu / 2,
            high_hu: center_hu + width_hu / 2,
        }
    }

    /// The windowed value, in [0, 1].
    #[must_use]
    pub fn apply(self, hu: f32) -> f32 {
        let width = (self.high_hu - self.low_hu) as f32;
        ((hu - self.low_hu as f32) / width).clamp(0.0, 1.0)
    }
}

/// The three channels of the model: brain, subdural and bone (paper, Methods, "Preprocessing").
pub const HEAD_WINDOWS: [Window; 3] = [
    Window::new(40, 80),
    Window::new(80, 200),
    Window::new(600, 2800),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_windows_have_the_published_limits() {
        let limits = HEAD_WINDOWS.map(|window| (window.low_hu, window.high_hu));
        assert_eq!(limits, [(0, 80), (-20, 180), (-800, 2000)]);
        assert_eq!(HEAD_WINDOWS.map(|window| window.apply(-3000.0)), [0.0; 3]);
        assert_eq!(HEAD_WINDOWS.map(|window| window.apply(3000.0)), [1.0; 3]);
        assert_eq!(HEAD_WINDOWS[0].apply(40.0), 0.5);
    }
}
