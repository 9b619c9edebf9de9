//! Modules of a tenant and what each needs. (architecture.md, "Tenants and switches")

use std::fmt;
use std::str::FromStr;

/// A part of Segue that can be on or off per tenant. In the order of dependency: each needs the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Module {
    /// Takes events in.
    Ingest,
    /// Joins them per person.
    Identity,
    /// Reports.
    Analytics,
    /// Live audiences.
    Audience,
    /// Scenarios and messages.
    Campaign,
}

impl Module {
    /// All, in order of dependency.
    pub const ALL: [Module; 5] = [Module::Ingest, Module::Identity, Module::Analytics, Module::Audience, Module::Campaign];

    /// What must be on for this one to be on.
    pub fn needs(self) -> Option<Module> {
        match self {
            Module::Ingest => None,
            Module::Identity => Some(Module::Ingest),
            Module::Analytics => Some(Module::Identity),
            Module::Audience => Some(Module::Analytics),
            Module::Campaign => Some(Module::Audience),
        }
    }

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Module::Ingest => "ingest",
            Module::Identity => "identity",
            Module::Analytics => "analytics",
            Module::Audience => "audience",
            Module::Campaign => "campaign",
        }
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such module; there are ingest, identity, analytics, audience and campaign")]
pub struct UnknownModule;

impl FromStr for Module {
    type Err = UnknownModule;

    fn from_str(text: &str) -> Result<Self, UnknownModule> {
        Module::ALL.into_iter().find(|module| module.name() == text).ok_or(UnknownModule)
    }
}

/// The set of modules that are on for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModuleSet(u8);

/// A switch that the dependencies do not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// Others must be on first.
    #[error("{module} needs {}; switch these on first, or ask for dependencies to be switched on too", names(missing))]
    MissingDependency {
        /// What was to be switched on.
        module: Module,
        /// What is off and needed, in the order in which to switch on.
        missing: Vec<Module>,
    },
    /// Others depend on it.
    #[error("{} depend on {module}; switch these off first, or ask to cascade", names(dependents))]
    HasDependents {
        /// What was to be switched off.
        module: Module,
        /// What is on and depends on it, in the order in which to switch off.
        dependents: Vec<Module>,
    },
}

fn names(modules: &[Module]) -> String {
    modules.iter().map(|module| module.name()).collect::<Vec<_>>().join(", ")
}

impl ModuleSet {
    /// Whether `module` is on.
    pub fn contains(self, module: Module) -> bool {
        self.0 & (1 << module as u8) != 0
    }

    /// The modules that are on, in order of dependency.
    pub fn iter(self) -> impl Iterator<Item = Module> {
        Module::ALL.into_iter().filter(move |module| self.contains(*module))
    }

    fn with(self, module: Module) -> Self {
        Self(self.0 | 1 << module as u8)
    }

    fn without(self, module: Module) -> Self {
        Self(self.0 & !(1 << module as u8))
    }

    /// The set with `module` on. `with_dependencies` switches on what it needs too.
    pub fn enable(self, module: Module, with_dependencies: bool) -> Result<Self, SwitchError> {
        let mut missing = Vec::new();
        let mut needed = module.needs();
        while let Some(dependency) = needed {
            if !self.contains(dependency) {
                missing.insert(0, dependency);
            }
            needed = dependency.needs();
        }
        if !missing.is_empty() && !with_dependencies {
            return Err(SwitchError::MissingDependency { module, missing });
        }
        Ok(missing.into_iter().fold(self, Self::with).with(module))
    }

    /// The set with `module` off. `cascade` switches off what depends on it too.
    pub fn disable(self, module: Module, cascade: bool) -> Result<Self, SwitchError> {
        let dependents: Vec<Module> =
            Module::ALL.into_iter().rev().take_while(|other| *other != module).filter(|other| self.contains(*other)).collect();
        if !dependents.is_empty() && !cascade {
            return Err(SwitchError::HasDependents { module, dependents });
        }
        Ok(dependents.into_iter().fold(self, Self::without).without(module))
    }

    /// As bits, for storage; bit n is `Module::ALL[n]`.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// From bits; unknown ones are dropped.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 0b1_1111)
    }
}

impl FromIterator<Module> for ModuleSet {
    fn from_iter<I: IntoIterator<Item = Module>>(modules: I) -> Self {
        modules.into_iter().fold(Self::default(), Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_of_every_combination_keeps_or_names_its_dependencies() {
        for bits in 0..32u8 {
            let set = ModuleSet::from_bits(bits);
            for module in Module::ALL {
                match set.enable(module, false) {
                    Ok(on) => assert!(on.contains(module) && module.needs().is_none_or(|need| on.contains(need))),
                    Err(SwitchError::MissingDependency { missing, .. }) => {
                        assert!(!missing.is_empty() && missing.iter().all(|need| !set.contains(*need)));
                        let on = set.enable(module, true).expect("with dependencies it is possible");
                        assert!(missing.iter().all(|need| on.contains(*need)) && on.contains(module));
                    }
                    Err(SwitchError::HasDependents { .. }) => panic!("switching on has no dependents"),
                }
                match set.disable(module, false) {
                    Ok(off) => assert!(!off.contains(module) && off.iter().all(|other| other < module)),
                    Err(SwitchError::HasDependents { dependents, .. }) => {
                        assert!(!dependents.is_empty() && dependents.iter().all(|other| *other > module));
                        let off = set.disable(module, true).expect("cascading is possible");
                        assert!(off.iter().all(|other| other < module));
                    }
                    Err(SwitchError::MissingDependency { .. }) => panic!("switching off misses nothing"),
                }
            }
        }
    }
}
