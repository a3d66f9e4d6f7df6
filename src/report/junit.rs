//! The gates as JUnit XML, which every pipeline shows as tests.

use super::Report;
use super::words::escaped;
use crate::verify::GateResult;

/// One test case a gate, and one that the written file was opened and asked.
pub fn junit(report: &Report) -> String {
    let failures = report.gates.iter().filter(|gate| !gate.passed).count();
    let cases: String = report.gates.iter().map(case).collect();
    let opened = format!(
        "  <testcase classname=\"slim.verify\" name=\"{} opens and answers\"/>\n",
        escaped(&report.pruned.path)
    );
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n\
         <testsuite name=\"slim verify\" tests=\"{}\" failures=\"{failures}\" errors=\"0\">\n\
         {opened}{cases}</testsuite>\n</testsuites>\n",
        report.gates.len() + 1
    )
}

fn case(gate: &GateResult) -> String {
    let (name, found) = (escaped(&gate.gate), escaped(&gate.found));
    match gate.passed {
        true => format!(
            "  <testcase classname=\"slim.verify\" name=\"{name}\">\n    <system-out>{found}</system-out>\n  </testcase>\n"
        ),
        false => format!(
            "  <testcase classname=\"slim.verify\" name=\"{name}\">\n    <failure message=\"{found}\"/>\n  </testcase>\n"
        ),
    }
}
