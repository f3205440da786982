use super::*;
use crate::nn::check::{Case, check};

fn attention(lengths: [&[usize]; 2]) -> Attention {
    let [queries, keys] = lengths.map(|lengths| Arc::new(Segments::new(lengths.iter().copied())));
    Attention {
        heads: 4,
        kv_heads: 4,
        head_dim: 6,
        scale: 0.5,
        causal: false,
        rotary: None,
        buckets: None,
        drop: None,
        queries,
        keys,
    }
}

/// The fused form against the composed one.
fn check_self(attention: Attention, bias: bool) {
    let (rows, queries) = (attention.queries.rows(), attention.heads * attention.head_dim);
    let width = queries + 2 * attention.kv_heads * attention.head_dim;
    let all = [rows, width];
    let mut shapes: Vec<&[usize]> = vec![&all];
    let biases = [attention.buckets.as_ref().map_or(0, |buckets| buckets.count), attention.heads];
    if bias {
        shapes.push(&biases);
    }
    let composed = |t: &[Tensor]| {
        let kv = t[0].narrow(1, queries, width - queries)?;
        composed::attend(&attention, &t[0].narrow(1, 0, queries)?, &kv, t.get(1))
    };
    check(Case::new(&shapes), |t| attention.clone().to_self(&t[0], t.get(1)), composed);
}

#[test]
fn gradients_of_causal_rotary_grouped_attention() {
    let rotary = Some(Arc::new(Rotary::new(9, 6, 100.0)));
    for drop in [None, Some(Dropout { rate: 0.3, seed: 5 })] {
        check_self(
            Attention {
                kv_heads: 2,
                causal: true,
                rotary: rotary.clone(),
                drop,
                ..attention([&[5, 1, 3], &[5, 1, 3]])
            },
            false,
        );
    }
}

#[test]
fn gradients_of_relative_biases() {
    for (causal, both_ways) in [(false, true), (true, false)] {
        for drop in [None, Some(Dropout { rate: 0.3, seed: 9 })] {
            let buckets = Some(Arc::new(Buckets::new(6, 5, both_ways, 9)));
            check_self(Attention { causal, buckets, drop, ..attention([&[2, 9], &[2, 9]]) }, true);
        }
    }
}

#[test]
fn gradients_of_cross_attention() {
    let lengths: [&[usize]; 2] = [&[3, 0, 4], &[2, 3, 5]];
    for drop in [None, Some(Dropout { rate: 0.3, seed: 2 })] {
        let attention = Attention { drop, ..attention(lengths) };
        let case = Case::new(&[&[7, 24], &[10, 48]]);
        let composed = |t: &[Tensor]| composed::attend(&attention, &t[0], &t[1], None);
        check(case, |t| attention.clone().to_other(&t[0], &t[1]), composed);
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let zeros = |rows, width| Tensor::zeros((rows, width), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    assert!(attention([&[3], &[3]]).to_self(&zeros(3, 71), None).is_err());
    assert!(attention([&[3], &[3]]).to_self(&zeros(4, 72), None).is_err());
    assert!(attention([&[3], &[3, 1]]).to_other(&zeros(3, 24), &zeros(4, 48)).is_err());
    assert!(attention([&[3], &[3]]).to_self(&zeros(3, 72), Some(&zeros(2, 4))).is_err());
}

#[test]
fn far_positions_share_buckets() {
    let both = Buckets::new(32, 128, true, 300);
    assert_eq!([both.of(0, 0), both.of(5, 0), both.of(0, 5), both.of(7, 0)], [0, 5, 21, 7]);
    assert_eq!([both.of(8, 0), both.of(127, 0), both.of(299, 0), both.of(0, 299)], [8, 15, 15, 31]);
    let back = Buckets::new(32, 128, false, 300);
    assert_eq!([back.of(0, 9), back.of(15, 0), back.of(16, 0), back.of(200, 0)], [0, 15, 16, 31]);
}
