//! The pictures of a report, as SVG that takes its colours from the page around it, so that they change with it. No
//! plotting library does: they write colours and sizes down.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::ops::RangeInclusive;

use hdrhistogram::Histogram;

/// What a picture is drawn on, and the part of it that has the curves: left, right, top, bottom.
const SIZE: (f64, f64) = (400.0, 250.0);
const FRAME: (f64, f64, f64, f64) = (60.0, 392.0, 10.0, 208.0);

/// How wide a character of its text is, in the widest font that a browser has for it.
const CHARACTER: f64 = 7.6;

/// Points to each nine of a curve.
const STEPS: u32 = 20;

/// Latency by percentile: how many nines the percentile has, and the time in µs that it stands for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Curve(Vec<(f64, f64)>);

impl Curve {
    /// Of all of these together. It ends where a single time is left.
    pub(super) fn new<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Curve {
        let Some(all) = histograms.cloned().reduce(|mut all, one| {
            all += one;
            all
        }) else {
            return Curve::default();
        };
        let nines = (all.len().max(1) as f64).log10();
        let point = |step: u32| {
            let nines = f64::from(step) / f64::from(STEPS);
            (nines, all.value_at_quantile(1.0 - 10f64.powf(-nines)) as f64 / 1e3)
        };
        let steps = (nines * f64::from(STEPS)) as u32;
        Curve((0..=steps).map(point).chain([(nines, all.max() as f64 / 1e3)]).collect())
    }
}

/// From which to which power of ten the times of these curves go, of microseconds.
pub(super) fn decades<'a>(curves: impl Iterator<Item = &'a Curve>) -> RangeInclusive<i32> {
    let times = curves.flat_map(|curve| &curve.0).map(|(_, time)| time.max(1e-3).log10());
    let (low, high) = times.fold((f64::MAX, f64::MIN), |(low, high), time| (low.min(time), high.max(time)));
    if low > high {
        return 0..=1;
    }
    let low = low.floor() as i32;
    low..=(high.ceil() as i32).max(low + 1)
}

/// Curves in one picture, each of its class. Pictures with the same decades can be held against each other.
pub(super) fn percentiles(curves: &[(&str, &Curve)], decades: RangeInclusive<i32>) -> String {
    let nines = curves.iter().flat_map(|(_, curve)| &curve.0).map(|point| point.0).fold(2.0, f64::max);
    let (left, right, top, bottom) = FRAME;
    let (low, high) = (f64::from(*decades.start()), f64::from(*decades.end()));
    let x = |at: f64| left + at / nines * (right - left);
    let y = |log: f64| bottom - (log.clamp(low, high) - low) / (high - low) * (bottom - top);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Latency by percentile\">\n",
        SIZE.0, SIZE.1
    );
    for decade in decades {
        let at = y(f64::from(decade));
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/>");
        let text = time(10f64.powi(decade));
        let _ =
            writeln!(svg, "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>", left - 5.0, at + 4.0);
    }
    let mut free = 0.0;
    for (nine, text) in ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999"].iter().enumerate()
    {
        if nine as f64 > nines {
            break;
        }
        let at = x(nine as f64);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{at:.1} {top}V{bottom}\"/>");
        // Under its line, if the picture's edge leaves it the room; and nowhere where it would touch the one before.
        let half = text.len() as f64 * CHARACTER / 2.0;
        let (at, y) = (at.min(SIZE.0 - half), bottom + 16.0);
        if at - half >= free {
            let _ = writeln!(svg, "<text class=\"middle\" x=\"{at:.1}\" y=\"{y:.1}\">{text}</text>");
            free = at + half;
        }
    }
    let (middle, foot) = ((left + right) / 2.0, bottom + 34.0);
    let _ =
        writeln!(svg, "<text class=\"middle\" x=\"{middle}\" y=\"{foot}\">percentile of round trips</text>");
    for (class, Curve(points)) in curves {
        let points: Vec<String> =
            points.iter().map(|(at, time)| format!("{:.1},{:.1}", x(*at), y(time.log10()))).collect();
        let _ = writeln!(
            svg,
            "<polyline class=\"{class}\" points=\"{}\"><title>{class}</title></polyline>",
            points.join(" ")
        );
    }
    svg + "</svg>\n"
}

/// A picture as a file of its own, with what stands around it in a page: a title, a key, and the colours.
pub(super) fn alone(svg: &str, title: &str, style: &str) -> String {
    let (left, head) = (FRAME.0, 46.0);
    let before = format!("<svg viewBox=\"0 0 {} {}\"", SIZE.0, SIZE.1);
    let after = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 -{head} {} {}\"",
        SIZE.0,
        SIZE.1 + head
    );
    let foot = format!(
        "<text class=\"title\" x=\"{left}\" y=\"-26\">{title}</text>\n\
         <text class=\"key zerio\" x=\"{left}\" y=\"-8\">zerio</text>\n\
         <text class=\"key control\" x=\"{}\" y=\"-8\">- - bare sockets</text>\n\
         <style>\n{style}:root {{ background: var(--ground) }}\ntext.title {{ fill: var(--text); font-weight: 600 }}\n\
         text.key {{ fill: currentColor }}\n</style>\n</svg>",
        left + 60.0
    );
    svg.replacen(&before, &after, 1).replacen("</svg>", &foot, 1)
}

/// A power of ten of microseconds, with its unit.
fn time(micros: f64) -> String {
    match micros {
        short if short < 1.0 => format!("{:.0} ns", short * 1e3),
        short if short < 1e3 => format!("{short:.0} µs"),
        long if long < 1e6 => format!("{:.0} ms", long / 1e3),
        long => format!("{:.0} s", long / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: impl IntoIterator<Item = u64>) -> Curve {
        let mut histogram = Histogram::new(3).unwrap();
        times.into_iter().for_each(|time| histogram.record(time).unwrap());
        Curve::new([histogram.clone(), histogram].iter())
    }

    #[test]
    fn a_curve_goes_from_the_shortest_to_the_longest() {
        let curve = of((1..=500).map(|time| time * 1000));
        assert!(curve.0.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{curve:?}");
        let near = |is: f64, should_be: f64| (is / should_be - 1.0).abs() < 0.01;
        assert_eq!(curve.0[0].0, 0.0);
        assert!(near(curve.0[0].1, 1.0) && near(curve.0[20].1, 450.0), "{curve:?}");
        assert!(curve.0.last().is_some_and(|last| near(last.0, 3.0) && near(last.1, 500.0)), "{curve:?}");
        assert_eq!(Curve::new([].iter()), Curve::default());
    }

    #[test]
    fn the_last_percentiles_had_been_written_over_one_another() {
        for nines in 20..=72 {
            let nines = f64::from(nines) / 10.0;
            let svg = percentiles(&[("zerio", &Curve(vec![(0.0, 10.0), (nines, 20.0)]))], 0..=2);
            let labels = svg.lines().filter_map(|line| {
                let (at, rest) = line.strip_prefix("<text class=\"middle\" x=\"")?.split_once('"')?;
                let text = rest.strip_prefix(" y=\"224.0\">")?.strip_suffix("</text>")?;
                Some((at.parse::<f64>().ok()?, text.len() as f64 * CHARACTER / 2.0))
            });
            let labels: Vec<(f64, f64)> = labels.collect();
            assert!(labels.len() as f64 >= nines.min(5.0).floor() + 1.0, "{nines}: {svg}");
            assert!(labels.iter().all(|(at, half)| at + half < SIZE.0 + 0.1), "{nines}: {svg}");
            for pair in labels.windows(2) {
                assert!(pair[0].0 + pair[0].1 < pair[1].0 - pair[1].1 + 0.1, "{nines}: {svg}");
            }
        }
    }

    #[test]
    fn the_picture_has_every_decade_of_its_times() {
        let (fast, slow) = (of(8_000..12_000), of([15_000, 90_000_000]));
        assert_eq!(decades([&fast].into_iter()), 0..=2);
        assert_eq!(decades([&fast, &slow].into_iter()), 0..=5);
        assert_eq!(decades([].into_iter()), 0..=1);
        let svg = percentiles(&[("zerio", &fast), ("control", &slow)], 0..=5);
        for text in ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "99.9", "zerio", "control"] {
            assert!(svg.contains(&format!(">{text}</t")), "{text}: {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
