//! A linear map a cut, in closed form (ReplaceMe, Shopkhoev et al., arXiv 2505.02819, the least-squares
//! variant): with Y the state behind the attention of the last layer before the cut, M what its MLP
//! adds, and L the state that the layer behind the cut expects,
//!
//! T = I + (MᵀM + λI)⁻¹ Mᵀ(L − Y − M), and Y + M·T takes the place of L.
//!
//! It is ridge regression towards the identity: few tokens leave the model as it is, instead of
//! silencing the MLP. λ is the one that serves held-out tokens best. Cuts are fitted in order, each on
//! the states of the model as it is mended so far, so that what one cut leaves wrong the next one sees.
//! A norm behind the MLP cannot hold a matrix: there T is diagonal, in the norm's weights.

use super::{Cut, Heal, Scales, cuts};
use crate::arch::KeepSet;
use crate::eval::{Candidate, Engine, Layout, Mask, Mended, Progress};
use crate::model::{Form, LinearMap, Mend, Model};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use nalgebra::{Cholesky, DMatrix};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Rows that are held out together, and how many such stretches one of them is taken of.
const STRETCH: usize = 16;
const HELD_OUT: usize = 5;

/// λ, in means of the diagonal of MᵀM.
const RIDGES: [f64; 7] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0];

/// A set with what makes up for its cuts.
pub struct Fit {
    /// The candidate.
    pub mended: Mended,
    /// Each cut, in order.
    pub cuts: Vec<Cut>,
}

/// The states of one layout's texts.
struct Texts {
    layout: Layout,
    original: Tensor,
    pruned: Tensor,
    /// Y and M, while a cut is open.
    open: Option<(Tensor, Tensor)>,
}

/// Fits every cut of a set on the tokens of some questions.
///
/// # Errors
/// What the model reports.
pub fn fit<Q: AsRef<[Candidate]>>(
    model: &Model,
    keep: &KeepSet,
    questions: &[Q],
    scales: &Scales,
    progress: &dyn Progress,
) -> Result<Fit> {
    let engine = Engine::new(model);
    let mut texts = Vec::new();
    for layout in engine.layouts(questions)? {
        let state = model.embed(&layout.tokens)?;
        texts.push(Texts {
            layout,
            original: state.clone(),
            pruned: state,
            open: None,
        });
    }
    let open: BTreeMap<usize, Range<usize>> = cuts(keep).into_iter().collect();
    let mut mended = Mended {
        keep: keep.clone(),
        mends: BTreeMap::new(),
    };
    let mut found = Vec::new();
    progress.begin("mending the cuts", model.n_layers() as u64);
    for layer in 0..model.n_layers() {
        for text in &mut texts {
            text.through(model, layer, keep.form(layer), open.contains_key(&layer))?;
        }
        let closed = open.iter().find(|(_, gone)| gone.end == layer + 1);
        if let Some((&after, gone)) = closed {
            let cut = close(model, after, gone, &mut texts, &mut mended, scales)?;
            found.push(cut);
        }
        progress.advance(1);
    }
    Ok(Fit {
        mended,
        cuts: found,
    })
}

impl Texts {
    /// Takes both models' states through a layer; before a cut, in two halves.
    fn through(&mut self, model: &Model, layer: usize, form: Form, opens: bool) -> Result<()> {
        let frame = &self.layout.frame;
        let pass = |form: Form, x: &Tensor| model.layer_as(layer, form, x, frame, None);
        self.original = pass(Form::WHOLE, &self.original)?;
        if form.is_gone() {
            return Ok(());
        }
        if !opens {
            self.pruned = pass(form, &self.pruned)?;
            return Ok(());
        }
        let half = |attention: bool| Form {
            attention: attention && form.attention,
            mlp: !attention && form.mlp,
            ..Form::GONE
        };
        let attended = pass(half(true), &self.pruned)?;
        self.pruned = pass(half(false), &attended)?;
        self.open = Some((attended.clone(), (&self.pruned - &attended)?));
        Ok(())
    }

    /// Rows behind the first token of each text: those to fit on, and those that are held out.
    fn rows(&self) -> [Vec<u32>; 2] {
        let rows = 0..self.layout.tokens.len();
        let rows = rows.filter(|row| !self.layout.firsts.contains(row));
        let (held, fitted) = rows
            .map(|row| row as u32)
            .partition(|row| *row as usize / STRETCH % HELD_OUT == HELD_OUT - 1);
        [fitted, held]
    }
}

/// Fits one cut, and takes the states over it.
fn close(
    model: &Model,
    after: usize,
    gone: &Range<usize>,
    texts: &mut [Texts],
    mended: &mut Mended,
    scales: &Scales,
) -> Result<Cut> {
    let size = model.config().hidden_size;
    let has_mlp = mended.keep.form(after).mlp;
    let norm = model.norm_behind_mlp(after)?;
    let can = has_mlp && model.config().experts.is_none();
    let solved = match (&norm, can) {
        (None, true) => solve_map(texts, size)?,
        (Some(weight), true) => solve_norm(texts, weight)?,
        _ => None,
    };
    let mut cut = Cut {
        after,
        gone: gone.clone().collect(),
        heal: Heal::Linear,
        factor: None,
        residual: None,
    };
    let mend = match solved {
        Some((mend, residual)) => {
            cut.residual = Some(residual);
            mend
        }
        None => {
            cut.factor = scales.factor(gone);
            let Some(factor) = cut.factor else {
                cut.heal = Heal::None;
                return Ok(cut);
            };
            cut.heal = Heal::Scale;
            Mend::Scale(factor)
        }
    };
    for text in texts {
        let (attended, added) = text.open.take().context("no cut is open")?;
        text.pruned = mended_state(&mend, norm.as_deref(), &attended, &added, &text.pruned)?;
    }
    mended.mends.insert(after, Arc::new(mend));
    Ok(cut)
}

fn mended_state(
    mend: &Mend,
    norm: Option<&[f32]>,
    attended: &Tensor,
    added: &Tensor,
    whole: &Tensor,
) -> Result<Tensor> {
    let row = |values: Vec<f32>| -> Result<Tensor> {
        let n = values.len();
        Ok(Tensor::from_vec(values, n, added.device())?.to_dtype(added.dtype())?)
    };
    Ok(match mend {
        Mend::Scale(factor) => (whole * f64::from(*factor))?,
        Mend::Linear(map) => {
            let size = added.dim(2)?;
            let map = row(map.values().to_vec())?.reshape((size, size))?;
            (attended + added.broadcast_matmul(&map)?)?
        }
        Mend::Norm(weight) => {
            let old = norm.context("there is no norm behind the MLP")?;
            let ratio = |(new, old): (&f32, &f32)| if *old == 0.0 { 1.0 } else { new / old };
            let ratios = row(weight.iter().zip(old).map(ratio).collect())?;
            (attended + added.broadcast_mul(&ratios)?)?
        }
    })
}

/// Sums over tokens, in f64: MᵀM, Mᵀ(L − Y − M) and Σ(L − Y − M)².
struct Sums {
    gram: DMatrix<f64>,
    cross: DMatrix<f64>,
    missing: f64,
}

impl Sums {
    fn new(size: usize) -> Self {
        Self {
            gram: DMatrix::zeros(size, size),
            cross: DMatrix::zeros(size, size),
            missing: 0.0,
        }
    }

    fn add(&mut self, text: &Texts, rows: Vec<u32>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (m, missing) = text.on(rows)?;
        let size = m.dim(1)?;
        let transposed = m.t()?.contiguous()?;
        let add = |sum: &mut DMatrix<f64>, product: &Tensor| -> Result<()> {
            let values: Vec<f64> = product.flatten_all()?.to_vec1()?;
            *sum += DMatrix::from_row_slice(size, size, &values);
            Ok(())
        };
        add(&mut self.gram, &transposed.matmul(&m)?)?;
        add(&mut self.cross, &transposed.matmul(&missing)?)?;
        self.missing += missing.sqr()?.sum_all()?.to_scalar::<f64>()?;
        Ok(())
    }

    /// What must be added to the identity, for a λ in means of the diagonal; `None` where MᵀM is not
    /// positive.
    fn solve(&self, ridge: f64) -> Option<DMatrix<f64>> {
        let mut gram = self.gram.clone();
        let size = gram.nrows();
        let ridge = ridge * gram.trace() / size.max(1) as f64;
        for i in 0..size {
            gram[(i, i)] += ridge;
        }
        Some(Cholesky::new(gram)?.solve(&self.cross))
    }

    /// ‖missing − M·D‖² / ‖missing‖² = 1 − (2 tr DᵀC − tr DᵀGD) / ‖missing‖².
    fn residual(&self, map: &DMatrix<f64>) -> f64 {
        let gained = 2.0 * map.dot(&self.cross) - map.dot(&(&self.gram * map));
        1.0 - gained / self.missing
    }
}

impl Texts {
    /// M and L − Y − M on some rows, in f64.
    fn on(&self, rows: Vec<u32>) -> Result<(Tensor, Tensor)> {
        let (_, added) = self.open.as_ref().context("no cut is open")?;
        let index = Tensor::new(rows, added.device())?;
        let some = |x: &Tensor| -> Result<Tensor> {
            let rows = x.squeeze(0)?.index_select(&index, 0)?;
            Ok(rows.to_dtype(DType::F64)?.to_device(&Device::Cpu)?)
        };
        let missing = (some(&self.original)? - some(&self.pruned)?)?;
        Ok((some(added)?, missing))
    }
}

/// The map of the λ that serves held-out tokens best, fitted on all tokens, and its root residual on
/// those that were held out; `None` where it is of no help.
fn solve_map(texts: &[Texts], size: usize) -> Result<Option<(Mend, f64)>> {
    let (mut fitted, mut held) = (Sums::new(size), Sums::new(size));
    for text in texts {
        let [fit, hold] = text.rows();
        fitted.add(text, fit)?;
        held.add(text, hold)?;
    }
    let tried = RIDGES.iter().filter_map(|&ridge| {
        let residual = held.residual(&fitted.solve(ridge)?);
        residual.is_finite().then_some((ridge, residual))
    });
    let best = tried.min_by(|a, b| a.1.total_cmp(&b.1));
    let Some((ridge, residual)) = best.filter(|(_, residual)| *residual < 1.0) else {
        return Ok(None);
    };
    fitted.gram += &held.gram;
    fitted.cross += &held.cross;
    let Some(map) = fitted.solve(ridge) else {
        return Ok(None);
    };
    let map = map + DMatrix::identity(size, size);
    // nalgebra's order is that of columns: the transpose's columns are the rows.
    let values = map.transpose();
    let values = values.as_slice().iter().map(|&x| x as f32).collect();
    let map = LinearMap::new(values, size)?;
    Ok(Some((Mend::Linear(map), residual.max(0.0).sqrt())))
}

/// The same for a diagonal map, which the weights of the norm behind the MLP can hold.
fn solve_norm(texts: &[Texts], weight: &[f32]) -> Result<Option<(Mend, f64)>> {
    let size = weight.len();
    let mut sums = [(); 2].map(|()| (vec![0.0; size], vec![0.0; size], 0.0));
    for text in texts {
        for ((gram, cross, missing), rows) in sums.iter_mut().zip(text.rows()) {
            if rows.is_empty() {
                continue;
            }
            let (m, lost) = text.on(rows)?;
            let squares: Vec<f64> = m.sqr()?.sum(0)?.to_vec1()?;
            let products: Vec<f64> = (&m * &lost)?.sum(0)?.to_vec1()?;
            gram.iter_mut().zip(squares).for_each(|(sum, x)| *sum += x);
            cross
                .iter_mut()
                .zip(products)
                .for_each(|(sum, x)| *sum += x);
            *missing += lost.sqr()?.sum_all()?.to_scalar::<f64>()?;
        }
    }
    let [(gram, cross, _), (held_gram, held_cross, held_missing)] = sums;
    let mean = gram.iter().sum::<f64>() / size.max(1) as f64;
    let solve = |gram: &[f64], cross: &[f64], ridge: f64| -> Vec<f64> {
        let each = gram.iter().zip(cross);
        each.map(|(g, c)| c / (g + ridge * mean)).collect()
    };
    let residual = |map: &[f64]| {
        let each = map.iter().zip(&held_gram).zip(&held_cross);
        let gained: f64 = each.map(|((d, g), c)| 2.0 * d * c - d * d * g).sum();
        1.0 - gained / held_missing
    };
    let tried = RIDGES
        .iter()
        .map(|&ridge| (ridge, residual(&solve(&gram, &cross, ridge))));
    let best = tried
        .filter(|(_, residual)| residual.is_finite())
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let Some((ridge, residual)) = best.filter(|(_, residual)| *residual < 1.0) else {
        return Ok(None);
    };
    let both =
        |a: Vec<f64>, b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
    let (gram, cross) = (both(gram, &held_gram), both(cross, &held_cross));
    let map = solve(&gram, &cross, ridge);
    let weight = weight
        .iter()
        .zip(map)
        .map(|(w, d)| (f64::from(*w) * (1.0 + d)) as f32);
    Ok(Some((
        Mend::Norm(weight.collect()),
        residual.max(0.0).sqrt(),
    )))
}
