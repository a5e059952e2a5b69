"""The *Effects* tab of Flower: what the store knows of effects, runs and connectors, and the acts of people.

`starting` puts it into Flower, `access` says who may do what, `handler` is what its pages share, `pages` are the pages,
`acts` what their forms do, `wording` how texts from outside and instants are shown. Of Flower nothing is copied: its
templates, its login, its theme and its URL prefix are used as they are.
"""
