use proptest::prelude::*;

use super::*;

fn geometry(width: usize, height: usize, fit: Fit) -> Geometry {
    Geometry { width, height, fit, fill: 114, bgr: false, mean: [0.0; 3], std: [1.0; 3] }
}

/// A picture without any regularity.
fn noise(width: usize, height: usize) -> Picture {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    Picture::from_rgb(width, height, (0..width * height * 3).map(|_| next()).collect()).unwrap()
}

fn place(geometry: &Geometry, picture: &Picture) -> (Vec<f32>, Placement) {
    let mut out = vec![f32::NAN; geometry.width * geometry.height * 3];
    let placement = geometry.place(picture, &mut out);
    assert!(out.iter().all(|value| value.is_finite()), "every element is written");
    (out, placement)
}

/// `INTER_LINEAR` as its definition reads, pixel by pixel.
fn reference(picture: &Picture, width: usize, height: usize) -> Vec<f32> {
    let axis = |i: usize, from: usize, to: usize| {
        let at = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let clamp = |at: f64| at.clamp(0.0, (from - 1) as f64) as usize;
        (clamp(at.floor()), clamp(at.floor() + 1.0), at - at.floor())
    };
    let mut out = Vec::new();
    for y in 0..height {
        let (y0, y1, wy) = axis(y, picture.height(), height);
        for x in 0..width {
            let (x0, x1, wx) = axis(x, picture.width(), width);
            for c in 0..3 {
                let at = |x: usize, y: usize| f64::from(picture.rgb()[(y * picture.width() + x) * 3 + c]);
                let upper = at(x0, y0) * (1.0 - wx) + at(x1, y0) * wx;
                let lower = at(x0, y1) * (1.0 - wx) + at(x1, y1) * wx;
                out.push((upper * (1.0 - wy) + lower * wy) as f32);
            }
        }
    }
    out
}

#[test]
fn stretching_is_bilinear() {
    for (from, to) in [((7, 5), (13, 11)), ((40, 30), (9, 7)), ((1, 1), (4, 3)), ((1, 9), (5, 2)), ((8, 8), (8, 3))] {
        let picture = noise(from.0, from.1);
        let (out, _) = place(&geometry(to.0, to.1, Fit::Stretch), &picture);
        for (got, want) in out.iter().zip(reference(&picture, to.0, to.1)) {
            assert!((got - want).abs() < 1e-3, "{from:?} to {to:?}: {got} instead of {want}");
        }
    }
}

/// What `cv2.resize` of OpenCV 5.0 makes of a 4 x 3 ramp; it rounds to whole greys.
#[test]
fn agrees_with_opencv_on_a_ramp() {
    let ramp: Vec<u8> = (0..12_u8).flat_map(|i| [i * 20; 3]).collect();
    let (out, _) = place(&geometry(3, 2, Fit::Stretch), &Picture::from_rgb(4, 3, ramp).unwrap());
    let opencv = [23.0, 50.0, 76.0, 143.0, 170.0, 196.0];
    assert!(out.iter().step_by(3).zip(opencv).all(|(grey, opencv)| (grey - opencv).abs() < 1.0), "{out:?}");
}

#[test]
fn the_right_size_is_copied_exactly() {
    let picture = noise(17, 9);
    for fit in [Fit::Stretch, Fit::Letterbox { centre: false }, Fit::Letterbox { centre: true }] {
        let (out, placement) = place(&geometry(17, 9, fit), &picture);
        let same = out.iter().zip(picture.rgb()).all(|(out, pixel)| *out == f32::from(*pixel));
        assert!(same && (placement.scale_x, placement.scale_y) == (1.0, 1.0));
    }
}

#[test]
fn normalises_in_the_order_that_the_network_sees() {
    let picture = Picture::from_rgb(2, 2, [10, 20, 30].repeat(4)).unwrap();
    let geometry =
        |size, bgr| Geometry { bgr, mean: [1.0, 2.0, 3.0], std: [2.0, 4.0, 8.0], ..geometry(size, size, Fit::Stretch) };
    for size in [2, 5] {
        assert_eq!(place(&geometry(size, false), &picture).0[..3], [4.5, 4.5, 3.375]);
        assert_eq!(place(&geometry(size, true), &picture).0[..3], [14.5, 4.5, 0.875]);
    }
}

#[test]
fn letterbox_sizes_are_those_of_yolox() {
    let sized = |width, height, centre| {
        let picture = Picture::from_rgb(width, height, vec![0; width * height * 3]).unwrap();
        let inner = geometry(416, 416, Fit::Letterbox { centre }).inner(&picture);
        (inner.left, inner.top, inner.width, inner.height)
    };
    assert_eq!(sized(1920, 1080, false), (0, 0, 416, 234));
    assert_eq!(sized(1920, 1080, true), (0, 91, 416, 234));
    assert_eq!(sized(1080, 1920, true), (91, 0, 234, 416));
    assert_eq!(sized(100, 75, false), (0, 0, 416, 312));
    assert_eq!(sized(16_384, 1, true), (0, 207, 416, 1));
}

#[test]
fn letterbox_fills_the_rest() {
    let geometry = Geometry { mean: [14.0; 3], std: [50.0; 3], ..geometry(8, 8, Fit::Letterbox { centre: true }) };
    let (out, placement) = place(&geometry, &Picture::from_rgb(2, 1, vec![214; 6]).unwrap());
    assert_eq!((placement.left, placement.top), (0, 2));
    for (i, value) in out.iter().enumerate() {
        let expected = if (2..6).contains(&(i / 24)) { 4.0 } else { 2.0 };
        assert!((value - expected).abs() < 1e-5);
    }
}

#[test]
fn refuses_senseless_numbers() {
    let good = geometry(8, 8, Fit::Stretch);
    assert!(good.check().is_ok());
    for bad in [
        Geometry { width: 0, ..good.clone() },
        Geometry { height: 100_000, ..good.clone() },
        Geometry { mean: [0.0, f32::NAN, 0.0], ..good.clone() },
        Geometry { std: [1.0, 0.0, 1.0], ..good.clone() },
        Geometry { std: [1.0, 1.0, f32::INFINITY], ..good.clone() },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn boxes_come_back(
        (w, h) in (1..300_usize, 1..300_usize), (width, height) in (1..200_usize, 1..200_usize), kind in 0..3_u8,
        at in prop::array::uniform4(0.0_f32..1.0),
    ) {
        let fit = match kind { 0 => Fit::Stretch, kind => Fit::Letterbox { centre: kind == 1 } };
        let picture = noise(w, h);
        let (_, p) = place(&geometry(width, height, fit), &picture);
        let rect = Rect { x0: at[0] * w as f32, y0: at[1] * h as f32, x1: at[2] * w as f32, y1: at[3] * h as f32 };
        let x = |x: f32| x / p.scale_x + p.left as f32;
        let y = |y: f32| y / p.scale_y + p.top as f32;
        let back = p.to_picture(Rect { x0: x(rect.x0), y0: y(rect.y0), x1: x(rect.x1), y1: y(rect.y1) });
        for (a, b) in [(back.x0, rect.x0), (back.y0, rect.y0), (back.x1, rect.x1), (back.y1, rect.y1)] {
            prop_assert!((a - b).abs() < 0.02 * (1.0 + p.scale_x.max(p.scale_y)), "{a} instead of {b}");
        }
    }

    #[test]
    fn boxes_are_clipped(bits in prop::array::uniform4(-1e6_f32..1e6)) {
        let (_, placement) = place(&geometry(64, 32, Fit::Letterbox { centre: true }), &noise(50, 70));
        let [x0, y0, x1, y1] = bits;
        let r = placement.to_picture(Rect { x0, y0, x1, y1 });
        prop_assert!([r.x0, r.x1].iter().all(|x| (0.0..=50.0).contains(x)));
        prop_assert!([r.y0, r.y1].iter().all(|y| (0.0..=70.0).contains(y)));
    }
}
