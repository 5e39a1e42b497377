//! The rules of a site profile.

use super::disease::Disease;
use super::site::{Group, ScannerProfile, SiteProfile};
use super::{SURE, SiteError};

/// Checks a profile field by field; the first that breaks a rule is named.
pub(super) struct Checker<'a> {
    pub(super) site: &'a str,
}

impl Checker<'_> {
    pub(super) fn check(&self, profile: &SiteProfile) -> Result<(), SiteError> {
        let population = &profile.population;
        self.group("population.all", population.all)?;
        self.ensure(
            (1.0..=50.0).contains(&population.scans_per_patient),
            "population.scans_per_patient",
            population.scans_per_patient,
            "1 to 50",
        )?;
        let mut kinds = 0.0;
        for disease in Disease::ALL {
            let Some(entry) = population.disease.get(&disease) else {
                return Err(SiteError::Missing {
                    site: self.site.to_owned(),
                    disease,
                });
            };
            let field = format!("population.disease.{disease}");
            let rule = "more than 0, at most 0.97";
            let valid = entry.prevalence > 0.0 && entry.prevalence <= SURE;
            self.ensure(
                valid,
                &format!("{field}.prevalence"),
                entry.prevalence,
                rule,
            )?;
            if let Some(group) = entry.positives {
                self.group(&format!("{field}.positives"), group)?;
            }
            if Disease::HEMORRHAGES.contains(&disease) {
                kinds += entry.prevalence;
            }
        }
        let any = population.disease[&Disease::Ich].prevalence;
        for kind in Disease::HEMORRHAGES {
            let found = population.disease[&kind].prevalence;
            let field = format!("population.disease.{kind}.prevalence");
            self.ensure(
                found <= any,
                &field,
                found,
                "at most that of ICH, which holds it",
            )?;
        }
        let rule = "at most the sum of its five kinds";
        self.ensure(
            any <= kinds + 1e-9,
            "population.disease.ICH.prevalence",
            any,
            rule,
        )?;
        let records = profile.records;
        for (field, found) in [
            ("records.missed", records.missed),
            ("records.delayed", records.delayed),
            ("records.unlisted", records.unlisted),
        ] {
            self.ensure((0.0..=1.0).contains(&found), field, found, "0 to 1")?;
        }
        let both = records.missed + records.delayed;
        self.ensure(
            both <= 1.0,
            "records.missed + records.delayed",
            both,
            "at most 1",
        )?;
        self.scanner(&profile.scanner)
    }

    fn scanner(&self, scanner: &ScannerProfile) -> Result<(), SiteError> {
        if scanner.machines.is_empty() {
            return Err(SiteError::Empty {
                site: self.site.to_owned(),
                field: "scanner.machines",
            });
        }
        if scanner.slices.is_empty() {
            return Err(SiteError::Empty {
                site: self.site.to_owned(),
                field: "scanner.slices",
            });
        }
        for machine in &scanner.machines {
            let valid = machine.weight >= 0.0 && machine.weight.is_finite();
            self.ensure(
                valid,
                "scanner.machines.weight",
                machine.weight,
                "0 or more",
            )?;
        }
        for habit in &scanner.slices {
            let thickness = f64::from(habit.thickness_mm);
            let valid = (0.5..=10.0).contains(&thickness);
            self.ensure(
                valid,
                "scanner.slices.thickness_mm",
                thickness,
                "0.5 to 10 mm",
            )?;
            let valid = habit.weight >= 0.0 && habit.weight.is_finite();
            self.ensure(valid, "scanner.slices.weight", habit.weight, "0 or more")?;
        }
        self.range(
            "scanner.noise_hu",
            scanner.noise_hu,
            0.0,
            200.0,
            "0 to 200 HU, from at most to",
        )?;
        self.range(
            "scanner.kernel",
            scanner.kernel,
            -2.0,
            5.0,
            "-2 to 5, from at most to",
        )?;
        self.range(
            "scanner.cupping_hu",
            scanner.cupping_hu,
            0.0,
            50.0,
            "0 to 50 HU, from at most to",
        )?;
        self.range(
            "scanner.tilt_deg",
            scanner.tilt_deg,
            -30.0,
            30.0,
            "-30 to 30 degrees, from at most to",
        )?;
        let [fov, fov_sd] = scanner.field_of_view.map(f64::from);
        self.ensure(
            (0.8..=2.0).contains(&fov),
            "scanner.field_of_view mean",
            fov,
            "0.8 to 2",
        )?;
        let [gain, gain_sd] = scanner.gain.map(f64::from);
        self.ensure(
            (0.5..=1.5).contains(&gain),
            "scanner.gain mean",
            gain,
            "0.5 to 1.5",
        )?;
        let [offset, offset_sd] = scanner.offset_hu.map(f64::from);
        self.ensure(
            offset.abs() <= 100.0,
            "scanner.offset_hu mean",
            offset,
            "-100 to 100 HU",
        )?;
        let rotation = f64::from(scanner.rotation_deg);
        self.ensure(
            (0.0..=30.0).contains(&rotation),
            "scanner.rotation_deg",
            rotation,
            "0 to 30 degrees",
        )?;
        for (field, found, most, expected) in [
            ("scanner.field_of_view deviation", fov_sd, 0.2, "0 to 0.2"),
            ("scanner.gain deviation", gain_sd, 0.1, "0 to 0.1"),
            ("scanner.offset_hu deviation", offset_sd, 30.0, "0 to 30 HU"),
            (
                "scanner.position_mm",
                f64::from(scanner.position_mm),
                40.0,
                "0 to 40 mm",
            ),
            ("scanner.headrest", scanner.headrest, 1.0, "0 to 1"),
            ("scanner.tilted", scanner.tilted, 1.0, "0 to 1"),
        ] {
            self.ensure((0.0..=most).contains(&found), field, found, expected)?;
        }
        Ok(())
    }

    fn range(
        &self,
        field: &str,
        [from, to]: [f32; 2],
        least: f32,
        most: f32,
        expected: &'static str,
    ) -> Result<(), SiteError> {
        self.ensure(
            from >= least && from <= to,
            field,
            f64::from(from),
            expected,
        )?;
        self.ensure(to <= most, field, f64::from(to), expected)
    }

    fn group(&self, field: &str, group: Group) -> Result<(), SiteError> {
        let male = group.male;
        let rule = "more than 0, less than 1";
        self.ensure(
            male > 0.0 && male < 1.0,
            &format!("{field}.male"),
            male,
            rule,
        )?;
        let age_valid = (18.0..=99.0).contains(&group.age);
        self.ensure(
            age_valid,
            &format!("{field}.age"),
            group.age,
            "18 to 99 years",
        )?;
        let sd_valid = (1.0..=40.0).contains(&group.age_sd);
        self.ensure(
            sd_valid,
            &format!("{field}.age_sd"),
            group.age_sd,
            "1 to 40 years",
        )
    }

    fn ensure(
        &self,
        valid: bool,
        field: &str,
        found: f64,
        expected: &'static str,
    ) -> Result<(), SiteError> {
        if valid {
            return Ok(());
        }
        Err(SiteError::Range {
            site: self.site.to_owned(),
            field: field.to_owned(),
            found,
            expected,
        })
    }
}
