"""What the page of the levers says between its tables."""

INTRO = """# What every step brings

Each row is one way to place a section or cells that were left out, of which only the expression is known. The sections of
`docs/benchmarks.md` have no part in it: by these folds the defaults were chosen. Lower is better for Procrustes RMSE and
E_geo. Made with

```bash
{command}
```
"""

WEIGHTS = """## Genes and axes by how well they tell places apart

Every gene counts alike, or by the root of Moran's I on the training slides and in units of its own spread
(`ipar.training.gene_weights`), in the components, in the network on genes, and in the slide's own components that sharpen
it. The layout is the overview alone, as it is and sharpened. Of whole transcriptomes, means over the folds {folds}; and the
351 genes of a panel, where half of the cells of {slide} teaches the other half (seeds {seeds} of the dealing and the
training). On the sections every mean is better in all five scores, though Hippo5, which five others teach, has slightly worse
ranks and more E_geo. On the panel, whose genes were chosen because they tell cells apart, the sharpened layout has slightly
worse ranks and more E_geo: there all genes count alike.

In these rows all components are principal ones. In the last of each kind, half of them are axes of largest spatial covariance
instead (`ipar.training.component_axes`), which with the genes weighted as by default (those of sections by place, those
of the panel all alike) is what ipar does. Where two sections teach, ranks and the Procrustes fit stay as they were; else every
score is better or, contacts where five teach, equal. The tables below were, but for "With the flow and without it", all measured
with principal components alone, and but those of spots and panels before genes were weighted.
"""

STEPS_TITLE = """
## The encoder, the layout, the sharpening

Seeds {seeds}; mean over the folds {folds}, and over seeds.
"""

ADAPTATION = """
Among the ways to adapt the encoder, one helps: to place the query, and train again with it as one more slide, finds more
neighbours at equal ranks of distances; its price is a training for every query, so that the default is without it.
Pretraining on other tissues changes little, and a discriminator that forces the query's embedding to look like that of the
training slides loses nearly all.
"""

TRAINING = """## What is trained on, and how

Every row trains its own encoder, or its own network on one embedding: fold {folds} alone, so that small differences say
little. Slides with half of their counts, beside the whole ones, are no worse in any score here; the default has none, for
they lost elsewhere (see the end of this page). Optimal transport, no dropout of genes and slides of other tissues lose in
most scores. Minisets of other sizes and other numbers of candidates change the network alone, and hardly what is finished.
"""

SKETCH = """
## The sketch

A set encoder that draws the tissue, beside the one that embeds it; the layout is the overview alone. By itself its drawing
is worse than the overview. Where five sections teach, the sharpened overview gains a little from it in every score on
average, though not on every section; where two do, nothing: so it is trained where more than 2,500 cells teach. Sharpening
that holds its distances too has no better ranks and more E_geo: it does not. Means over the folds {folds}.
"""

FLOW = """
## Samples of the flow

IGA's flow (`docs/iga.md`), trained on the same embedding as the network: one sample as it is; twenty aligned and averaged; what
the flow's network gives in one step from noise, which is the mean over layouts that samples scatter about; and that layout
beside the other two. A single sample says little. The expected layout is better than the mean of twenty samples in nearly
every score, for four passes of the network instead of a thousand; sharpened, as `ipar.tl.sample_coords` sharpens the mean,
the two come level, but for the lower E_geo of the first. In the mean of all three it gains a little in every score on
average, in ranks of distances on six sections of seven. How the shares are split hardly matters, but that E_geo grows with
the overview's. The default gives a half to the flow and a quarter to each of the others. Means over the folds {folds}.
"""

SHARES = """
## With the flow and without it

The same with weighted genes and spatial axes: a default fit, finished with the flow and without it; without it the overview has
0.8. On the sections of the folds {folds},
and where half of the cells of {slide} teaches the other half (itself dealt into two slides, seed 0), every mean is better with
the flow in all five scores, and on all seven the Procrustes fit and E_geo are, so that a flow is trained by default. Single
losses: Hippo8, which five teach, has 4 % fewer of its contacts found, Hippo7, which two teach, 1 %, and on Hippo1 ranks of
distances are worse by .001. What a left-out training slide would choose is not asked where so few teach: of two sections one
teaches the other, for which the flow is too much (ranks of distances worse by .012 and .023 where Hippo1 teaches Hippo2, and
Hippo5 teaches Hippo8, finished, and before the sharpening by up to .14), and yet both together, here Hippo5 and Hippo8, place a
third one better with it. Whether two embryos are enough for a third, no fold tells that is not scored in `docs/benchmarks.md`.

The sharpening holds distances, 0.6 of them those of what was taught distances across the tissue (τ). With the flow less of
it would do for E_geo, which falls by 3 and 4 % on sections, but contacts are lost, and with none ranks of distances too; only
single cells like it better. It is left as it is.
"""

SPOTS = """
## Spots that teach single cells

The cells of {slide}, which no task scores, dealt into two random halves: one is summed to spots of some six cells and
teaches, the other is placed cell by cell, as a dissociated sample would be. The layout is the overview alone, as it is and
sharpened; means over seeds {seeds} of the dealing and the training. In the rows of a pseudo-slide every cell is the mean of
itself and of cells like it. Spots teach single cells well, though less than single cells do. To match components or genes to
the spots loses in every score. A pseudo-slide of five cells each gains in all of them before the sharpening; after it, an
eighth more true neighbours and a fifth more contacts are left, at equal ranks, for 3 % more E_geo, and the default is
without it. A fifth of the 351 genes is dropped in training, the default for so few.
"""

PANELS = """
## Panels of few genes

What the network on genes loses in training: a half of them, as of thousands, or a fifth, the default for fewer than 1,000.
Half of the cells of {slide} teaches the other half, all of its 351 genes known (seeds {seeds} of the dealing and the
training); and five sections teach {sections}, of the 350 genes that vary most. Nothing but that network differs. Single
cells, which is what panels are measured in, have better ranks of distances, a better Procrustes fit and a lower E_geo by the
smaller share, with every seed, at the price of 1 % of the neighbours and contacts; spots cut down to so few genes have a
lower E_geo too, but slightly worse ranks and fewer neighbours.
"""

DOUBTS = """
## Which cells are misplaced

What ranks the errors of a default fit: how far its three layouts disagree; a function learned from mistakes on training slides
(`ipar.model.UncertaintyHead`, before it is turned into an error); how far sixteen samples of the flow, of five steps,
disagree; and the last two together. Of the folds {folds}, and where half of the
cells of {slide} teaches the other half (itself dealt into two slides), seed 0. Less is better in the certain half. Two sections
tell less of what is misplaced on a third than samples do; five sections, and half of an embryo, tell about as much or more.
Together they are within .02 of the better one or ahead of it in each score, so that both count alike in every fit. Half as many
samples rank errors less well on every fold. Samples of a fifth of the cells, with the others by their neighbours in the
embedding, rank them better or worse by the fold, on average as well: so they are drawn for 1,500 cells of a slide at most.
"""

OUTRO = """
## Tried and not kept

While ipar was developed, the following was tried on folds like these or on embryo slides. It did not help on average, or paid
more in one score, or in time, than it brought in another; no run of it is kept here:

- encoder: axes of largest spatial covariance alone (sharpened; where two sections teach Hippo4, Hippo7 and Hippo8, and where
  five teach Hippo1 and Hippo4, ranks in the mean as with principal ones alone; on the latter worse by .01 than with both);
  beside the principal components of weighted genes those of genes that all count alike (two teach:
  ranks worse by .003; five teach Hippo1, Hippo4, Hippo5 and Hippo8: equal in the mean, between .012 better and .008 worse);
  Moran's I itself to the power of a quarter or three quarters as the weight of a gene (where two sections teach Hippo8,
  sharpened, ranks worse by .008 and .008 than with its root); whatever input left-out slides like best (on three sections that two others teach they prefer components alone, by
  .002 to .023 of their score, while components and genes place the section better by .013 in ranks of distances and 6 % in
  E_geo in the mean, with 2 % fewer neighbours; another input than both must now lead by .05);
  averaged weights over epochs; deeper set encoders, and ones that give coordinates instead of an embedding; 60 components instead of 30;
  components of unit variance; genes centred by the mean of all training slides instead of each slide's own (on an embryo,
  better for the perceptrons and worse for the set encoder; worse on a brain section; another technology would be lost), or
  for the perceptrons alone (sharpened, on embryo1 ranks better by .005 and E_geo lower by 3 %, on Hippo1, which five sections
  teach, ranks worse by .003 and E_geo higher by 3 %, on Hippo8, which two teach, ranks worse by .018);
  three times the steps for the perceptrons (on an embryo a little better in all scores, most of it gone where the set
  encoder counts double; on a section that five others teach nothing; for three times their time); three set encoders instead
  of one (on that section ranks better by .005, on the embryo worse by .010, more neighbours on both, for two more trainings
  of the dearest part); three encoders of three seeds, all their parts, in the overview and in what is sharpened (over seven
  sections, network and weights the same: ranks better by .003, 2 % more neighbours, 1 % less E_geo, on half an embryo better
  in neighbours alone; for two more trainings); the benchmarks' set transformer as it is instead of the sketch (where five sections teach Hippo1,
  Hippo5 and Hippo8, ranks better by .011 in the mean, and by .008 on Hippo8 from two, equal on the embryo at more E_geo,
  worse by .03 on Hippo5 from two sections; the overview alone, one seed); a sketch that counts half or double (half: half of
  what it brings; double: more on an embryo, less on sections); a sketch that reads fifty components and no averages, as the
  benchmarks' set transformer does, or two of either (where five sections teach Hippo1 and Hippo5: alone it draws Hippo1 far
  better, Hippo5 no better, and beside the others, sharpened, ranks differ by less than .005), and two of full weight (over
  six sections that five others teach, ranks better by .001 in the mean, between .009 better and .006 worse, E_geo 1 % higher);
  the layout of a common-frame perceptron as one more view (over five such sections, at half of its weight, ranks better by
  .001, 1 % fewer neighbours); every spot read as the mean of
  itself and spots like it, in training too or in the query alone (where two sections teach Hippo8, ranks worse by .02 to
  .08, more true contacts; single cells that single cells teach: sharpened, ranks worse by .005 and more, hardly more neighbours); slides with half of their counts beside the whole ones (worse in most scores where five sections teach Hippo8, and in all where two
  embryos teach the third);
- layout: smoothing coordinates over a neighbour graph; weights of the network averaged over the last steps (no better on an
  embryo and on a section); a first guess at the principal axes of the embedding's global part instead of a perceptron's
  (alone, or with the perceptron on top of it: with the perceptron better in four of five scores on an embryo, worse in all
  on a section, each in the mean with the overview); the share of the overview chosen on the query itself, as cells alike in
  its own components then lie closest, or as the nearest in the layout explain most of these components (over all shares and
  views of one slide both say little of which layout is true: on an embryo with a third seed either costs .14 of the
  ranks); how much each view counts in the overview, chosen so (between .03 better and .03 worse than fixed, by the fold; the
  second of the two tells a network that failed from one that did not); a second training whose learning
  rate falls to its end (worse on a section); the weight of the overview as the left-out slide has it, where the network is
  trained again (on an embryo with three seeds and a section, 0.8 for all gave ranks of distances within 0.3 % of it, as many
  neighbours, and 2 % less E_geo, where the chosen weight was 0.8 to 1 by the seed);
- network: a loss that tells contacts from other pairs (see above), which finished was worse where two others teach Hippo5, by
  .003 in ranks of distances and 1 % in E_geo; cells that all others attend to (see above), which where five sections teach
  Hippo1 bring nothing alone or finished, with either of two seeds; three networks of three seeds in the mean, there too
  (finished, scores are those of one); the set encoder's output beside the embedding, in what network and flow read (where five
  sections teach Hippo1 and Hippo4, out of fold like the embedding: finished, ranks of distances worse by .001 and .004, with a
  flow by .008 and .007);
- flow: four times as many sets (on the same two sections, sharpened, ranks worse by .004 and .008), or sets of up to twice the
  size (ranks worse by .004 and equal, E_geo 2 and 1 % lower, for twice the time); beside it the layouts of one or two of the
  benchmarks' set transformers, as a quarter of the mean (where five sections teach Hippo1, Hippo4, Hippo5 and Hippo8: ranks
  between .005 better and .005 worse, more E_geo on most of them);
- network and flow trained once more on all slides, where five sections teach (as by default where three or fewer do; five
  teach Hippo1 and Hippo4: finished, ranks of distances equal, E_geo 1 % higher and 2 % lower, for a longer training);
- in place of the mean of the three layouts, the point of least summed distance to a cell's three places (their geometric median, all of
  one weight, by which one layout that fails would count for less; where two sections teach Hippo4, where five teach Hippo1, Hippo4 and
  Hippo8, and on half an embryo: ranks worse by .001 in the mean, neighbours and E_geo the same; with encoders of plain components,
  on these and on Hippo7, worse by .003);
- flow: more noise on the embeddings that it is trained on, of one or two standard deviations (on embryo2, which
  another one teaches and by which nothing could be chosen, for `docs/benchmarks.md` score it, its own layout has ranks of .46, .48, .50 and E_geo of 3.1, 2.6, 2.2; in the mean with the others, sharpened, the same ranks and less
  E_geo, 2.15, 2.01, 1.86; where two sections teach Hippo4, its own ranks are .757, .749, .733, and in the mean E_geo rises
  from .91 to .97);
- uncertainty, where five sections teach Hippo1: how far the encoder's parts disagree about a cell's place, as one more sign
  (its rank correlation with the error is .20 by itself, nothing beside the other signs); trees, boosted or random, instead of
  the kernel ridge regression (ranks of errors by .01 to .04 worse over the sections left out);
- edges of the sharpening: components of the training slides' axes instead of the slide's own (over seven sections ranks differ by
  .004 or less, and by nothing in the mean; some 2 % more neighbours where two sections teach, as many where five do);
  mutual neighbours, or all that share neighbours, instead of UMAP's weights (fewer or worse ranks of
  distances); weights lowered where the layout has the cells far apart (fewer true neighbours);
- its course: a hold that loosens from step to step, or a second sharpening from the result of the first (in between firm
  and loose, no better than either); a push of 30 and more (neighbours are spread again).
"""
