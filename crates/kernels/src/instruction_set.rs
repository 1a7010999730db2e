//! The instruction set that all operations use: the best that the machine has, or a lesser one that [`VARIABLE`] names.
//!
//! The least, `portable`, is what the program was compiled for: on x86_64 that has no fused multiply-add, so products of
//! matrices round twice a step there. Everything that is no product of matrices has the same bits with every set.

use std::sync::OnceLock;

/// The environment variable that chooses an instruction set by its name. It is read once a process.
pub const VARIABLE: &str = "SINKSCOPE_ISA";

/// A set of instructions. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What the program was compiled for.
    Portable,
    /// AVX2 with fused multiply-adds.
    Avx2,
    /// AVX-512.
    Avx512,
    /// Tiles of AMX, for products of less than the highest precision.
    Amx,
}

impl InstructionSet {
    /// From the least on.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx];

    /// What [`VARIABLE`] calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }

    /// Whether this machine has it. AMX also needs the consent of the operating system, which is asked for when tiles are
    /// first wanted: without it, products of less than the highest precision are of the highest.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Portable => true,
            Self::Avx2 => pulp::x86::V3::try_new().is_some(),
            Self::Avx512 => Self::Avx2.is_available() && is_x86_feature_detected!("avx512f"),
            Self::Amx => Self::Avx512.is_available() && crate::matmul::has_tiles(),
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Portable;
    }

    /// The best that this machine has.
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|set| set.is_available()).unwrap_or(Self::Portable)
    }

    /// The one that [`VARIABLE`] names, or else the best.
    ///
    /// # Errors
    /// In words, if there is none of that name, or this machine does not have it.
    pub fn chosen() -> Result<Self, String> {
        let Some(name) = std::env::var_os(VARIABLE) else { return Ok(Self::best()) };
        let available: Vec<&str> = Self::ALL.into_iter().filter(|set| set.is_available()).map(Self::name).collect();
        let choices = format!("this machine has {}", available.join(", "));
        match Self::ALL.into_iter().find(|set| name == set.name()) {
            Some(set) if set.is_available() => Ok(set),
            Some(_) => Err(format!("{VARIABLE}={}: this machine does not have it; {choices}", name.display())),
            None => Err(format!("{VARIABLE}={}: is no instruction set; {choices}", name.display())),
        }
    }

    /// The one in use. A choice that [`InstructionSet::chosen`] refuses leaves the best; programs refuse it first.
    #[inline]
    pub fn in_use() -> Self {
        static IN_USE: OnceLock<InstructionSet> = OnceLock::new();
        *IN_USE.get_or_init(|| Self::chosen().unwrap_or_else(|_| Self::best()))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs tests of this program again in a process of its own, with another instruction set.
    fn again(set: &str, tests: &[&str]) -> (bool, String) {
        let mut command = Command::new(std::env::current_exe().expect("a program"));
        let output = command.args(tests).env(VARIABLE, set).output().expect("it starts");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    #[test]
    fn every_test_passes_with_every_instruction_set() {
        if std::env::var_os(VARIABLE).is_some() {
            println!("skipped: {VARIABLE} has chosen {}", InstructionSet::in_use().name());
            return;
        }
        for set in InstructionSet::ALL {
            if !set.is_available() {
                println!("skipped: this machine has no {}", set.name());
            } else if set < InstructionSet::best() {
                let (passed, output) = again(set.name(), &[]);
                assert!(passed, "with {}:\n{output}", set.name());
            }
        }
    }

    #[test]
    fn the_set_in_use_is_the_one_asked_for() {
        let chosen = InstructionSet::chosen().expect("one that this machine has");
        assert_eq!(InstructionSet::in_use(), chosen);
        if std::env::var_os(VARIABLE).is_none() {
            assert_eq!(chosen, InstructionSet::best());
        }
    }

    #[test]
    fn other_names_are_refused() {
        if std::env::var_os(VARIABLE).is_none() {
            let (passed, output) = again("avx3", &["the_set_in_use_is_the_one_asked_for"]);
            let said = "SINKSCOPE_ISA=avx3: is no instruction set; this machine has portable";
            assert!(!passed && output.contains(said), "{output}");
        }
    }
}
