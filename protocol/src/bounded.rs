//! Texts and lists with an upper bound that holds from decoding on.

use std::fmt;
use std::ops::Deref;

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

/// More than a bounded text or list may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{found} long, expected at most {limit}")]
pub struct TooLong {
    /// Bytes or items found.
    pub found: usize,
    /// Most allowed.
    pub limit: usize,
}

/// Text of at most `MAX` bytes without control characters, so that it can be printed as it is.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Encode)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Takes what fits of `text`; control characters become spaces.
    pub fn lossy(text: &str) -> Self {
        let mut end = text.len().min(MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text[..end].replace(char::is_control, " "))
    }

    fn is_valid(text: &str) -> bool {
        text.len() <= MAX && !text.contains(char::is_control)
    }
}

impl<const MAX: usize> Deref for Text<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<Context, const MAX: usize> Decode<Context> for Text<MAX> {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let text = String::decode(decoder)?;
        if Self::is_valid(&text) {
            Ok(Self(text))
        } else {
            Err(DecodeError::Other(
                "text too long or with control characters",
            ))
        }
    }
}

impl<'de, Context, const MAX: usize> bincode::BorrowDecode<'de, Context> for Text<MAX> {
    fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// At most `MAX` items.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Encode)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> List<T, MAX> {
    /// Takes all `items`.
    ///
    /// # Errors
    /// If there are more than `MAX`.
    pub fn new(items: Vec<T>) -> Result<Self, TooLong> {
        let (found, limit) = (items.len(), MAX);
        if found > limit {
            Err(TooLong { found, limit })
        } else {
            Ok(Self(items))
        }
    }

    /// The items.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for List<T, MAX> {
    type Error = TooLong;

    fn try_from(items: Vec<T>) -> Result<Self, TooLong> {
        Self::new(items)
    }
}

impl<Context, T: Decode<Context> + 'static, const MAX: usize> Decode<Context> for List<T, MAX> {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::new(Vec::decode(decoder)?).map_err(|_| DecodeError::Other("list too long"))
    }
}

impl<'de, Context, T: Decode<Context> + 'static, const MAX: usize>
    bincode::BorrowDecode<'de, Context> for List<T, MAX>
{
    fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lossy_text_ends_at_a_character_and_has_no_control_characters() {
        assert_eq!(&*Text::<5>::lossy("ab\ncäd"), "ab c");
        assert_eq!(&*Text::<6>::lossy("ab\ncäd"), "ab cä");
        assert_eq!(&*Text::<80>::lossy("\u{1b}[2J"), " [2J");
    }

    #[test]
    fn a_longer_list_is_refused() {
        assert_eq!(
            List::<u8, 2>::new(vec![1, 2, 3]),
            Err(TooLong { found: 3, limit: 2 })
        );
        assert_eq!(List::<u8, 2>::new(vec![1, 2]).unwrap().into_vec(), [1, 2]);
    }
}
