//! The state of an optimizer's run before its first round.

use super::Course;
use crate::{
    activation::probe_rows,
    num::Real,
    study::{
        analysis::{Analysis, AnalysisSettings},
        claims::bounds::Bound,
        context::Context,
        error::StudyError,
        event::Event,
        plan::Plan,
        state::{Log, State},
        task::PreparedRun,
        write,
    },
    taylor::{RegretSettings, tracker::Displacements},
    trace::{TargetKind, TraceWriter},
};
use std::{ops::ControlFlow, sync::atomic::Ordering};

impl<T: Real> Course<'_, T> {
    /// The state before the first round. Optima are not looked for if they are `known`.
    pub(super) fn start(
        &self,
        keep_trace: bool,
        known: bool,
        events: &mut dyn FnMut(Event),
    ) -> Result<State<T>, StudyError> {
        let Context { task, inputs, options, out, .. } = *self.context;
        let experiment = task.experiment;
        let (planned, per_epoch) = (self.context.planned_rounds(), self.context.per_epoch());
        inputs.check_weights(experiment, out)?;
        let regret = self.context.regret();
        let settings = AnalysisSettings {
            regret: if known { RegretSettings { scales: Vec::new(), ..regret } } else { regret },
            planned_rounds: planned,
            batch: experiment.training.batch_size,
            memory: options.memory,
            every: experiment.exploration.every.rounds(per_epoch).min(planned),
            pool_winners: experiment.exploration.pool_winners,
            rates: Bound::rates(self.config),
            displacements: self.displacements(events)?,
        };
        let train = self.data.train();
        let probe = probe_rows(train.len(), experiment.exploration.probe);
        write::probe(&self.folder, &probe)?;
        let mut probe_inputs = Vec::new();
        train.gather_inputs(&probe, &mut probe_inputs);
        let PreparedRun { weights, optimizer, .. } = self.data.prepare(self.config, experiment.seed)?;
        let analysis = Analysis::new(&task.network, experiment.training.loss, settings, probe_inputs);
        let trace = if keep_trace { Some(self.trace_writer()?) } else { None };
        Ok(State { weights, optimizer, analysis, trace, log: Log::default() })
    }

    /// How far every neuron will go, from training without looking at anything else: a neuron has one ball for all prefixes. `None` where
    /// nothing is solved before the last round. Stopped on the way, it is of no use: then no round is trained either.
    fn displacements(&self, events: &mut dyn FnMut(Event)) -> Result<Option<Vec<f64>>, StudyError> {
        let Context { task, options, .. } = *self.context;
        let regret = self.context.regret();
        if !Plan::new(&task.network, task.experiment.training.loss, &regret).streams() || regret.prefixes == 1 {
            return Ok(None);
        }
        events(Event::Phase { name: "first pass: how far training goes" });
        let mut run = self.data.prepare(self.config, task.experiment.seed)?;
        let planned = run.planned_rounds();
        let mut displacements = Displacements::new(&task.network);
        let each_round = |number: usize, _: usize, _: f64| {
            events(Event::Progress { done: number as u64, of: planned as u64 });
            if options.stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        run.train(&mut [&mut displacements], each_round, |_, _| ControlFlow::Continue(()));
        Ok(Some(displacements.into_neurons()))
    }

    fn trace_writer(&self) -> Result<TraceWriter<T>, StudyError> {
        let task = self.context.task;
        let (training, train) = (&task.experiment.training, &task.dataset.train);
        let (loss, target, batch) = (training.loss, training.target, training.batch_size);
        let path = self.folder.join("trace");
        let writer = TraceWriter::new(&path, &task.network, loss, target, batch, self.config, &task.dataset);
        let writer = writer.map_err(|source| self.cannot_write_trace(source))?;
        if self.context.embeds_data() {
            let labels = (target == TargetKind::Label).then_some(&train.labels[..]);
            let written = writer.write_data(&train.inputs, train.features(), labels);
            written.map_err(|source| self.cannot_write_trace(source))?;
        }
        Ok(writer)
    }
}
