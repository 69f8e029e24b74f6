"""What the page of the ablations says between its tables; all figures are in the tables."""

INTRO = """# What each step brings

Each row places a section, or cells, that were held out: only their expression is known. The sections that
`docs/benchmarks.md` scores take no part, because the defaults were chosen by these folds. Lower is better for Procrustes
RMSE and E_geo. In the names of the rows, *overview* is the global map, and *own components* are the principal components of
the slide by itself. Each row was measured with the defaults of its time. Made with

```bash
{command}
```
"""

WEIGHTS = """## Genes and axes by how well they tell places apart

Genes count alike, or by the root of Moran's I on the training slides, in units of their own spread
(`ipar.training.axes.gene_weights`). The weights act on the components, on the network that reads genes, and on the slide's own
components, which sharpen the layout. The layout is the global map alone, plain and sharpened. Rows are means over the folds
{folds}. In the other rows half of the cells of {slide}, a panel of few genes, teaches the other half (seeds {seeds}).

On sections every mean is better with weights, in all scores. On the panel the sharpened layout has slightly worse ranks and
more E_geo: its genes were chosen because they tell cells apart, so there all genes count alike.

These rows have principal components only. In the last row of each kind, half of the components are axes of largest spatial
covariance instead (`ipar.training.axes.AxisSpace`), which is the default. Ranks and fit stay as they were where two sections
teach. Elsewhere every score is better or equal. The tables below have principal components alone, except for "With the flow
and without it". All but this one, spots and panels were measured before genes were weighted.
"""

STEPS = """
## The encoder, the layout, the sharpening

Means over the folds {folds}.
"""

ADAPTATION = """
One way to adapt the encoder helps: place the query, then train again with it as one more slide. It finds more neighbours at
equal ranks of distances, but costs a training for every query, so the default is without it. Pretraining on other tissues
changes little. A discriminator that makes the query's embedding look like that of the training slides loses in nearly all
scores.
"""

TRAINING = """## What is trained on, and how

Each row trains its own encoder, or its own network on one embedding. There is one fold, {folds}, so small differences say
little. Slides with half of their counts, beside the whole ones, are no worse here, but lost elsewhere, so the default has
none. Optimal transport, no dropout of genes, and slides of other tissues lose in most scores. Other minisets and other
numbers of candidates change the network alone, and hardly the finished layout.
"""

NETWORKS = """
## Changes of the network

Each row changes one thing of the layout network. All rows of a fold share one embedding, that of `quality="fast"`. *Alone*
is the layout of the network by itself. *Finished* is its mean with the global map, sharpened. The first row has the scores of the
default, all others have differences from it, as means over the folds {folds}. Differences are bold where a change is better on
every fold, and italic where it is worse on every fold.

Two rows change nothing but the seed of the network. On single folds they differ from the first row by up to {alone} in E_geo of the
network alone, and by up to {finished} in that of the finished layout. No change gains more than that on both folds. Starting
from the global map costs neighbours and E_geo. The last two rows are means of aligned layouts: they are not better than the best
of their parts, and finished they gain nothing. The defaults stay as they are.
"""

STARTS = """
## Where the flow starts

By default, the flow starts from noise. Here it also starts from noise of half the spread about a layout: the global map, or the
network's layout. The layouts that training slides start from are cross-fitted, as their embeddings are. *Finished* is the
layout that the flow expects, in the mean with the network's layout and the global map, sharpened. The embedding is that of
`quality="fast"`. With two training sections, starting from a layout helps the layout that the flow expects. With five, it harms,
above all single samples. Finished, all are level. Means over the folds {folds}.
"""

SKETCH = """
## The sketch

The sketch was a set encoder that drew the tissue, beside the one that embeds it. ipar no longer has it: it gained too little.
These rows were measured with an earlier version. The layout is the global map alone. The sketch by itself is worse than the
global map. Beside it, the sharpened layout gained a little where five sections teach, and nothing where two do. Means over
the folds {folds}.
"""

FLOW = """
## Samples of the flow

The flow (`docs/iga.md`) is trained on the embedding that the network is trained on. The rows show one sample, the mean of many
aligned ones, and what the flow expects in one step from noise: the mean of the layouts that samples scatter about. Below that,
this layout is blended with the other two. A single sample says little. The expected layout is better than the mean of samples
in nearly every score, for far fewer passes of the network. Sharpened, the two are level, except that E_geo of the expected
layout is lower. In the blend of all three it gains a little in each score on average. The shares hardly matter, but
E_geo grows with that of the global map. Means over the folds {folds}.
"""

SHARES = """
## With the flow and without it

The same with weighted genes and spatial axes: a default fit, finished with the flow and without it. The folds are {folds}. In
the other rows half of the cells of {slide}, dealt into two slides, teaches the other half. Every mean is better with the flow
in all scores, so a flow is trained by default. Single sections lose a little in contacts or in ranks. Held-out
training slides are not asked where two teach: one section then teaches the other, for which the flow is too much, although
both together place a third one better with it. No fold tells whether two embryos are enough for a third.

The sharpening holds distances. τ is the share of those that the embedding was taught. With the flow, less of them lowers E_geo,
but contacts are lost, and without any of them ranks of distances are lost too. Only single cells gain, so the default stays.
"""

SPOTS = """
## Spots that teach single cells

The cells of {slide}, which no task scores, are dealt into two random halves. One is summed to spots of some six cells and
teaches. The other is placed cell by cell, as a dissociated sample would be. The layout is the global map alone, plain and
sharpened (means over seeds {seeds}). In a pseudo-slide each cell is the mean of itself and of cells like it. Spots teach
single cells well, though less well than single cells do. Matching components or genes to the spots loses in every score. A
pseudo-slide of few cells each gains in all scores before the sharpening. After it, more neighbours and contacts remain at
equal ranks, for slightly more E_geo, so the default is without it.
"""

PANELS = """
## Panels of few genes

The rows differ in the share of the genes that the network loses in training: a half, the default for many genes, or a fifth,
the default for panels. Half of the cells of {slide} teaches the other half, with all genes of its panel (seeds {seeds}). In the
other rows five sections teach {sections}, with the {n_genes} genes that vary most. Nothing but that network differs. Single
cells, which panels are measured in, gain by the smaller share in ranks of distances, fit and E_geo, and lose few neighbours and
contacts. Spots cut down to so few genes have a lower E_geo too, but slightly worse ranks and fewer neighbours.
"""

NEIGHBORS = """
## Neighbours in a slide's own expression

Share of true neighbours among a cell's nearest eight, by cosine distance of the slide's own principal components. These are
averaged with those of like cells {steps} times, from left to right. Nothing is trained, and none of these slides is scored in
`docs/benchmarks.md`. The default is {n_components} components, averaged {n_steps} times.
"""

DOUBTS = """
## Which cells are misplaced

The rows rank the errors of a default fit. The signs are: how far its three layouts disagree; a function learned from mistakes on
training slides (`ipar.model.uncertainty.UncertaintyHead`); how far samples of the flow disagree; and the last two together. The folds are
{folds}; in the others half of the cells of {slide}, dealt into two slides, teaches the other half. Lower is better for the
certain half. Where two sections teach, mistakes tell less than samples do. Elsewhere they tell about as much, or more. Both
together are close to the better one, or ahead of it, so both count alike in each fit. Half as many samples rank errors less
well on every fold. Samples of a fifth of the cells are better or worse by the fold, so the number of cells is limited.
"""

OUTRO = """
## Tried and not kept

The following was tried on folds like these, or on embryo slides, while ipar was developed. It did not help on average, or cost
more in one score, or in time, than it brought in another. No run of it is kept here, so there are no figures:

- **Encoder, input:** axes of largest spatial covariance alone; components of genes that count alike beside those of weighted
  genes; other powers of Moran's I as the weight of a gene; components of unit variance; genes centred by the mean of all
  slides, for all networks or for the perceptrons alone; each spot read as the mean of itself and spots like it.
- **Encoder, choice:** the input that held-out slides like best. Where two sections teach, they prefer components alone, although
  both place the next section better. Another input than both must therefore lead clearly.
- **Encoder, networks:** averaged weights; deeper set encoders, and some that return coordinates; longer training of the
  perceptrons; three set encoders; three whole encoders; a set transformer, or a common-frame perceptron, as one more view.
- **Layout:** smoothing over a neighbour graph; a first guess at the principal axes of the
  global features; shares of the views chosen on the query itself; a second training with a falling learning rate; a share of
  the global map chosen on the held-out slide.
- **Network:** the set encoder's output beside the embedding; noise that a whole set shares; averaged weights; an epoch chosen
  before the ramp ends.
- **Flow:** four times as many sets, or sets of twice the size; more noise on the embeddings; set transformers beside it;
  training again on all slides where five teach; the geometric median of the three layouts in place of their mean.
- **Uncertainty:** how far the encoder's parts disagree; boosted or random trees in place of the kernel ridge regression.
- **Sharpening, edges:** components of the training slides in place of the slide's own; mutual neighbours, or all shared ones, in
  place of UMAP's weights; lower weights where the layout has cells far apart.
- **Sharpening, course:** a hold that loosens from step to step; a second sharpening from the first; a far stronger push.
"""
