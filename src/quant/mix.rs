//! Which type each matrix of a file gets: what people mean by "a q4_0 file".

use super::DType;
use std::{fmt, str::FromStr};

/// A choice of types for all the weights of a language model, as llama.cpp's quantizer makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// All in f32.
    F32,
    /// Matrices in f16.
    F16,
    /// Matrices in Q8_0.
    Q8_0,
    /// Matrices in Q4_0, the one that computes the logits in Q6_K.
    Q4_0,
    /// Matrices in Q4_K; the one that computes the logits, and half of those that suffer most, in Q6_K.
    Q4KM,
}

impl Mix {
    /// Every mix.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Q8_0, Self::Q4_0, Self::Q4KM];

    /// The name that people know it by, as in `q4_k_m`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4KM => "q4_k_m",
        }
    }

    /// Its number in the key `general.file_type`.
    pub const fn to_gguf(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4KM => 15,
        }
    }

    /// The type that a matrix of `cols` columns gets, and the one that it would have if its rows were whole blocks.
    /// `part` is its name without layer, such as `attn_v`; the embeddings go as `output` where they compute the logits.
    /// `layer` is one of `layers` in its stack. (llama.cpp: `llama_tensor_get_type`)
    pub fn dtype(self, part: &str, layer: usize, layers: usize, cols: usize) -> (DType, DType) {
        let eighth = layers / 8;
        let sensitive = matches!(part, "attn_v" | "cross_attn_v" | "ffn_down")
            && (layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2);
        let wanted = match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Q8_0 => DType::Q8_0,
            _ if part == "output" => DType::Q6K,
            Self::Q4_0 => DType::Q4_0,
            Self::Q4KM if sensitive => DType::Q6K,
            Self::Q4KM => DType::Q4K,
        };
        let fitting = match wanted {
            DType::Q6K if !cols.is_multiple_of(256) => DType::Q8_0,
            DType::Q4K if !cols.is_multiple_of(256) => DType::Q5_0,
            wanted => wanted,
        };
        (if cols.is_multiple_of(fitting.block_len()) { fitting } else { DType::F16 }, wanted)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mix {
    type Err = String;

    /// Reads a name; `q4_k` is `q4_k_m`.
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mix| mix.name() == text || (text == "q4_k" && *mix == Self::Q4KM));
        found.ok_or_else(|| format!("expected {}", Self::ALL.map(Self::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As llama.cpp's quantizer chose for these shapes.
    #[test]
    fn types_are_those_of_real_files() {
        let of = |mix: Mix, part: &str, layers: usize, cols: usize| -> Vec<usize> {
            (0..layers).filter(|&i| mix.dtype(part, i, layers, cols).0 == DType::Q6K).collect()
        };
        assert_eq!(of(Mix::Q4KM, "ffn_down", 30, 1536), [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]);
        assert_eq!(of(Mix::Q4KM, "ffn_down", 24, 4864), [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]);
        assert_eq!(Mix::Q4KM.dtype("attn_v", 0, 30, 576), (DType::Q8_0, DType::Q6K));
        assert_eq!(Mix::Q4KM.dtype("attn_v", 3, 30, 576), (DType::Q5_0, DType::Q4K));
        assert_eq!(Mix::Q4KM.dtype("output", 0, 22, 2048).0, DType::Q6K);
        assert_eq!(Mix::Q4_0.dtype("output", 0, 30, 576).0, DType::Q8_0);
        assert_eq!(Mix::Q4_0.dtype("token_embd", 0, 22, 2048).0, DType::Q4_0);
    }

    #[test]
    fn rows_that_are_no_whole_blocks_fall_back() {
        assert_eq!(Mix::Q8_0.dtype("attn_q", 0, 2, 48), (DType::F16, DType::Q8_0));
        assert_eq!(Mix::Q4KM.dtype("attn_q", 0, 2, 48), (DType::F16, DType::Q4K));
        assert_eq!(Mix::F32.dtype("attn_q", 0, 2, 48), (DType::F32, DType::F32));
    }

    #[test]
    fn names_round_trip() {
        assert!(Mix::ALL.into_iter().all(|mix| mix.name().parse() == Ok(mix)));
        assert_eq!("q4_k".parse(), Ok(Mix::Q4KM));
        assert!("q9".parse::<Mix>().is_err());
    }
}
