//! What of the machine a run may use.

use crate::checkpoint::ByteSize;
use crate::model::{Compute, Resources};
use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use clap::ValueEnum;
use std::fmt;
use std::str::FromStr;
use sysinfo::{
    MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System, get_current_pid,
};

/// What of the machine a run may use.
#[derive(clap::Args)]
pub(super) struct MachineOptions {
    /// What computes: auto, cpu, cuda:N or metal:N; slim score splits its questions over several
    #[arg(
        long,
        value_name = "DEVICE",
        default_value = "auto",
        value_delimiter = ',',
        help_heading = "Machine"
    )]
    device: Vec<Wanted>,
    /// The type in which products are made: f32; f16 or bf16 on a GPU; q8_0 or stored (K-quantised
    /// weights as they are) on a CPU [default: f32 on a CPU, bf16 on a GPU]
    #[arg(long, value_name = "TYPE", help_heading = "Machine")]
    compute: Option<Type>,
    /// Memory that the run may take, like 8GiB: a model that does not fit is read layer by layer
    /// [default: nine tenths of what is free]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    memory: Option<ByteSize>,
}

/// The types that products are made in, as people name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Type {
    F32,
    F16,
    Bf16,
    Q8_0,
    Stored,
}

impl Type {
    fn check(self, on_cpu: bool) -> Result<Compute> {
        let (compute, there) = match self {
            Self::F32 => (Compute::F32, true),
            Self::F16 => (Compute::F16, !on_cpu),
            Self::Bf16 => (Compute::BF16, !on_cpu),
            Self::Q8_0 => (Compute::Q8_0, on_cpu),
            Self::Stored => (Compute::Stored, on_cpu),
        };
        ensure!(
            there,
            "--compute {} is for a {}: leave it out, or choose another --device",
            format!("{self:?}").to_lowercase(),
            if on_cpu { "GPU" } else { "CPU" }
        );
        Ok(compute)
    }
}

/// A device, as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Auto,
    Cpu,
    Cuda(usize),
    Metal(usize),
}

impl FromStr for Wanted {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, number) = text.split_once(':').unwrap_or((text, "0"));
        let known = || format!("'{text}' is no device: auto, cpu, cuda, cuda:1 or metal");
        let number = number.parse().ok().with_context(known)?;
        match (kind, text.contains(':')) {
            ("auto", false) => Ok(Self::Auto),
            ("cpu", false) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(number)),
            ("metal", _) => Ok(Self::Metal(number)),
            _ => bail!(known()),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal(number) => write!(f, "metal:{number}"),
        }
    }
}

impl MachineOptions {
    /// The same as arguments, for another process.
    pub(super) fn arguments(&self) -> Vec<String> {
        let devices: Vec<String> = self.device.iter().map(Wanted::to_string).collect();
        let mut all = vec![format!("--device={}", devices.join(","))];
        if let Some(value) = self.compute.and_then(|kind| kind.to_possible_value()) {
            all.push(format!("--compute={}", value.get_name()));
        }
        all.extend(
            self.memory
                .map(|size| format!("--memory={}B", size.bytes())),
        );
        all
    }

    /// # Errors
    /// A device that this build or this machine does not have; several of them.
    pub(super) fn resources(&self) -> Result<Resources> {
        let (first, others) = self.all_resources()?;
        ensure!(
            others.is_empty(),
            "only slim score splits its work over several devices: give one --device"
        );
        Ok(first)
    }

    /// Of every device that is named: the first one, and the others. They share the memory.
    ///
    /// # Errors
    /// A device that this build or this machine does not have.
    pub(super) fn all_resources(&self) -> Result<(Resources, Vec<Resources>)> {
        let memory = self
            .memory
            .map_or_else(|| free_memory() / 10 * 9, ByteSize::bytes);
        let each = memory / self.device.len().max(1) as u64;
        let resources = self.device.iter().map(|wanted| self.on(*wanted, each));
        let mut resources = resources.collect::<Result<Vec<_>>>()?.into_iter();
        let first = resources.next().context("give a --device")?;
        Ok((first, resources.collect()))
    }

    fn on(&self, wanted: Wanted, memory: u64) -> Result<Resources> {
        let device = wanted.open()?;
        let compute = match (self.compute, device.is_cpu()) {
            (None, true) => Compute::F32,
            (None, false) => Compute::BF16,
            (Some(wanted), on_cpu) => wanted.check(on_cpu)?,
        };
        Ok(Resources {
            device,
            compute,
            graph: false,
            memory,
        })
    }
}

impl Wanted {
    fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(Self::any().unwrap_or(Device::Cpu)),
            Self::Cuda(number) => {
                ensure!(
                    cfg!(feature = "cuda"),
                    "this slim was built without CUDA: build it with --features cuda, or leave out \
                     --device"
                );
                Device::new_cuda(number).with_context(|| {
                    format!("there is no CUDA device {number} here (nvidia-smi lists them)")
                })
            }
            Self::Metal(number) => {
                ensure!(
                    cfg!(feature = "metal"),
                    "this slim was built without Metal: build it with --features metal, or leave \
                     out --device"
                );
                Device::new_metal(number)
                    .with_context(|| format!("there is no Metal device {number} here"))
            }
        }
    }

    /// The first device there is beside the CPU.
    fn any() -> Option<Device> {
        let cuda = cfg!(feature = "cuda").then(|| Device::new_cuda(0).ok());
        let metal = || cfg!(feature = "metal").then(|| Device::new_metal(0).ok());
        cuda.or_else(metal).flatten()
    }
}

/// Bytes that are free, for this process' group if it has a limit. Without an answer of the system
/// nothing is limited.
fn free_memory() -> u64 {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let (Ok(mut system), Ok(me)) = (System::new_with_specifics(memory), get_current_pid()) else {
        return u64::MAX;
    };
    // In a container without /proc there is no memory at all.
    let free = match system.total_memory() {
        0 => u64::MAX,
        _ => system.available_memory(),
    };
    let nothing = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[me]), false, nothing);
    let group = system.process(me).and_then(|me| me.cgroup_limits());
    // What the group has cached of files is free too.
    group.map_or(free, |group| {
        free.min(group.total_memory.saturating_sub(group.rss))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_in_pytorch() {
        for (text, device) in [
            ("auto", Wanted::Auto),
            ("cpu", Wanted::Cpu),
            ("cuda", Wanted::Cuda(0)),
            ("cuda:3", Wanted::Cuda(3)),
            ("metal:0", Wanted::Metal(0)),
        ] {
            assert_eq!(text.parse::<Wanted>().unwrap(), device);
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "auto:1", "cuda:-1"] {
            let error = text.parse::<Wanted>().unwrap_err().to_string();
            assert!(error.contains("is no device"), "{text}: {error}");
        }
    }
}
