use metrics::{Label, with_local_recorder};

use super::{exposition::parse, *};
use crate::metrics_names::{ALL, CONSUMER_BATCH_DURATION_MS, EPOCH_STAGE_MS, Kind};

/// A label value with everything that has to be escaped.
const HOSTILE: &str = "a\"b\nc\\\\d {}=,#é";

#[test]
fn what_is_rendered_is_what_prometheus_reads() {
    let recorder = builder().unwrap().build_recorder();
    let handle = recorder.handle();
    with_local_recorder(&recorder, || {
        describe_all();
        for metric in ALL {
            for value in ["0", HOSTILE] {
                let labels: Vec<Label> = metric
                    .labels
                    .iter()
                    .map(|label| Label::new(*label, value))
                    .collect();
                match metric.kind {
                    Kind::Counter => metrics::counter!(metric.name, labels).increment(3),
                    Kind::Gauge => metrics::gauge!(metric.name, labels).set(1.5),
                    Kind::Histogram => {
                        let histogram = metrics::histogram!(metric.name, labels);
                        for sample in [0.0, 0.3, 50.0, 100.1, 1e9] {
                            histogram.record(sample);
                        }
                    }
                }
            }
        }
    });
    handle.run_upkeep();
    let text = handle.render();
    let families = parse(&text).unwrap_or_else(|wrong| panic!("{wrong}\nin\n{text}"));
    assert_eq!(families.len(), ALL.len());
    for metric in ALL {
        let family = &families[metric.name];
        assert_eq!(family.help.as_deref(), Some(metric.words));
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!(family.kind.as_deref(), Some(kind), "{}", metric.name);
        for (_, labels, _) in &family.samples {
            let names: Vec<&str> = labels
                .keys()
                .map(String::as_str)
                .filter(|name| *name != "le")
                .collect();
            assert_eq!(names, metric.labels, "{}", metric.name);
        }
        for label in metric.labels {
            let hostile = |sample: &&(_, exposition::Labels, _)| {
                sample.1[*label] == HOSTILE.replace("\\\\", "\\")
            };
            assert!(
                family.samples.iter().any(|sample| hostile(&sample)),
                "{text}"
            );
        }
    }
    // The bound that an alert is about tells exactly what is at most that.
    for name in [CONSUMER_BATCH_DURATION_MS, EPOCH_STAGE_MS] {
        let samples = &families[name].samples;
        let at = |le: &str| {
            let found = samples
                .iter()
                .find(|(_, labels, _)| labels.get("le").is_some_and(|bound| bound == le));
            found.map(|(_, _, count)| *count)
        };
        assert_eq!(
            (at("50"), at("100"), at("200")),
            (Some(3.0), Some(3.0), Some(4.0))
        );
    }
}

#[test]
fn collecting_is_for_one_a_process() {
    let exporter = Exporter::install().unwrap();
    metrics::counter!(crate::metrics_names::EPOCHS).increment(1);
    let text = exporter.render()();
    let families = parse(&text).unwrap();
    assert!(families.contains_key(crate::metrics_names::EPOCHS));
    if cfg!(target_os = "linux") {
        assert!(families[RESIDENT_BYTES].samples[0].2 > 1e5);
    }
    assert!(matches!(
        Exporter::install(),
        Err(ExporterError::Installed(_))
    ));
}
