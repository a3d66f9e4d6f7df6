//! What of the machine a run may use.

use super::bytes::ByteSize;
use crate::model::Resources;
use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use std::str::FromStr;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// What of the machine a run may use.
#[derive(clap::Args)]
pub(super) struct MachineOptions {
    /// What computes: auto, cpu, cuda:N or metal:N
    #[arg(
        long,
        value_name = "DEVICE",
        default_value = "auto",
        help_heading = "Machine"
    )]
    device: Wanted,
    /// Memory that the run may take, like 8GiB: a model that does not fit is read layer by layer
    /// [default: nine tenths of what is free]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    memory: Option<ByteSize>,
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

impl MachineOptions {
    /// # Errors
    /// A device that this build or this machine does not have.
    pub(super) fn resources(&self) -> Result<Resources> {
        Ok(Resources {
            device: self.device.open()?,
            memory: match self.memory {
                Some(size) => size.bytes(),
                None => free_memory() / 10 * 9,
            },
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
    let Ok(system) = System::new_with_specifics(memory) else {
        return u64::MAX;
    };
    let free = system.available_memory();
    match system.cgroup_limits() {
        Some(group) => free.min(group.free_memory),
        None => free,
    }
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
